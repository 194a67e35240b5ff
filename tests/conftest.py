"""What every test may use: the shared real data (where it exists) and no environment of the user's."""

import os
from pathlib import Path

import pytest

# The tests speak of settings through load_settings(environment=...), never through this machine's own.
for _name in [n for n in os.environ if n.startswith(("DSA110_", "CONTIMG_")) and not n.startswith("DSA110_TEST_")]:
    del os.environ[_name]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, beside the checkout or named by DSA110_TEST_SHARED_DATA; skips where there is none."""
    named = os.environ.get("DSA110_TEST_SHARED_DATA")
    path = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no real data at {path}: set DSA110_TEST_SHARED_DATA to run this test")
    return path
