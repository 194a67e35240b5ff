"""The fast way into a raw subband: its bytes mapped into memory, and where each HDF5 chunk starts in them.

The writer's chunks are small (128 rows of 12 channels of one polarisation) and not compressed, so decoding them through
the library costs more than reading them; the rephasing kernel walks the chunks itself.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.phasing import Floats, Ints, TiledVisibilities, mean_of_rows
from dsa110_resources.errors import CorruptInputError
from dsa110_resources.uvh5 import SubbandHeader, open_raw, read_visibilities

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class RawTiles:
    """One subband's data, not yet unfolded.

    Attributes
    ----------
    visibilities
        Where the visibilities lie.
    flags : (n_row, n_channel, n_pol) bool or None
        Recorded flags; None when none is set (the writer never sets any).
    nsamples : (n_row,) float
        Mean number of correlator samples in each row.
    """

    visibilities: TiledVisibilities
    flags: npt.NDArray[np.bool_] | None
    nsamples: Floats


@dataclass(frozen=True, eq=False)
class _Tiling:
    starts: Ints
    """Byte offsets in the file, shape (row tiles, channel tiles, polarisation tiles)."""
    tile: tuple[int, int, int]


def read_tiles(header: SubbandHeader) -> RawTiles:
    """Map a subband's data if its layout allows, else read it through the HDF5 library.

    The result refers to the file: it must stay as it is (raw files are renamed into place and never change).
    """
    with open_raw(header.path) as file:
        tilings = {name: _find_tiling(file[f"Data/{name}"], header.path) for name in ("visdata", "flags", "nsamples")}
        dtypes = {name: file[f"Data/{name}"].dtype for name in tilings}
    vis, flags, nsamples = (tilings[name] for name in ("visdata", "flags", "nsamples"))
    if vis is None or flags is None or nsamples is None:
        return _read_through_library(header)
    pad = int(vis.starts.flat[0]) % 8
    aligned = not np.any((vis.starts - pad) % 8) and not np.any((nsamples.starts - pad) % 4)
    if not aligned or dtypes["visdata"] != np.complex64 or dtypes["nsamples"] != np.float32:
        return _read_through_library(header)
    content = _map_file(header.path, header.file_size)
    words = content[pad : pad + (len(content) - pad) // 8 * 8]
    shape = (header.n_blts, header.n_channels, len(header.polarizations))
    samples = mean_of_rows(words.view(np.float32), (nsamples.starts - pad) // 4, nsamples.tile, shape)
    recorded = read_visibilities(header)[1].reshape(shape) if _any_flag(content, flags) else None
    return RawTiles(TiledVisibilities(words.view(np.complex64), (vis.starts - pad) // 8, vis.tile), recorded, samples)


def _find_tiling(dataset: h5py.Dataset, path: Path) -> _Tiling | None:
    """Where a dataset's chunks lie; None if the library must decode it (filters, a layout without chunks)."""
    if dataset.chunks is None or dataset.id.get_create_plist().get_nfilters():
        return None
    rows, _, channels, pols = dataset.chunks
    n_row, _, n_channel, n_pol = dataset.shape
    starts = np.full((-(-n_row // rows), -(-n_channel // channels), -(-n_pol // pols)), -1, dtype=np.int64)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        row, _, channel, pol = chunk.chunk_offset
        starts[row // rows, channel // channels, pol // pols] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    if np.any(starts < 0):
        missing = int((starts < 0).sum())
        raise CorruptInputError(
            f"{missing} of {starts.size} tiles of {dataset.name} were never written",
            path=path,
            cure="copy it again from its node",
        )
    return _Tiling(starts, (rows, channels, pols))


def _map_file(path: Path, size: int) -> Bytes:
    with path.open("rb") as handle:
        if path.stat().st_size != size:
            raise CorruptInputError("changed its size while it was read", path=path, cure="let the copy finish, retry")
        mapped = mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_WILLNEED)
    return np.frombuffer(mapped, dtype=np.uint8)


def _any_flag(content: Bytes, flags: _Tiling) -> bool:
    size = int(np.prod(flags.tile))
    return any(content[start : start + size].any() for start in flags.starts.flat)


def _read_through_library(header: SubbandHeader) -> RawTiles:
    visibilities, flags, nsamples = read_visibilities(header)
    shape = (header.n_blts, header.n_channels, len(header.polarizations))
    recorded = flags.reshape(shape) if flags.any() else None
    means = nsamples.reshape(header.n_blts, -1).mean(axis=1, dtype=np.float64)
    return RawTiles(TiledVisibilities.from_array(visibilities.reshape(shape)), recorded, means)
