"""`python -m dsa110_assets.cli`: the same as the `dsa110` command."""

from dsa110_assets.cli import main

main()
