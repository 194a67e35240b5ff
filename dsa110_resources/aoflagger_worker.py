"""Child process of ``aoflagger.py``: runs the wheel's AOFlagger over a share of the baselines.

Usage: ``python -m dsa110_resources.aoflagger_worker MS STRATEGY FIRST LAST RESULT.npy``; the result is bool
(n_time, LAST - FIRST, n_chan, n_pol). A child each, because the library holds the interpreter while it works.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_resources.measurement_set import open_ms


def find_interference(
    data: npt.NDArray[np.complex64], flags: npt.NDArray[np.bool_], strategy: Path
) -> npt.NDArray[np.bool_]:
    """Flags of each baseline, polarisations together; arrays (n_time, n_bl, n_chan, n_pol)."""
    import aoflagger

    flagger = aoflagger.AOFlagger()
    script = flagger.load_strategy_file(str(strategy))
    n_time, n_bl, n_chan, n_pol = data.shape
    images = flagger.make_image_set(n_time, n_chan, 2 * n_pol)
    before = flagger.make_flag_mask(n_time, n_chan, False)
    out = np.empty(data.shape, dtype=bool)
    for b in range(n_bl):
        _fill(images, before, data[:, b], flags[:, b])
        out[:, b] = script.run(images, before).get_buffer().T[:, :, None]
    return out


def _fill(images: Any, before: Any, data: npt.NDArray[np.complex64], flags: npt.NDArray[np.bool_]) -> None:
    for p in range(data.shape[2]):
        images.set_image_buffer(2 * p, np.ascontiguousarray(data[:, :, p].real.T, dtype=np.float64))
        images.set_image_buffer(2 * p + 1, np.ascontiguousarray(data[:, :, p].imag.T, dtype=np.float64))
    before.set_buffer(np.ascontiguousarray(flags.all(axis=2).T))


def main(ms: str, strategy: str, first: str, last: str, result: str) -> None:
    """Read a share of the baselines, flag it, save the flags."""
    share = slice(int(first), int(last))
    with open_ms(Path(ms)) as opened:
        times = [slice(t, t + 1) for t in range(opened.layout.n_times)]
        data = np.concatenate([opened.read("DATA", times=t)[:, share] for t in times])
        flags = np.concatenate([opened.read("FLAG", times=t)[:, share] for t in times])
    np.save(result, find_interference(data, flags, Path(strategy)))


if __name__ == "__main__":
    main(*sys.argv[1:])
