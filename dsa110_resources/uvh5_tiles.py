"""The fast way into a raw subband: its bytes in one read, and where each HDF5 chunk starts in them.

The writer's chunks are small (128 rows of 12 channels of one polarisation) and not compressed, so decoding them through
the library costs more than reading them; the rephasing kernel walks the chunks itself.
"""

import os
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


def raw_buffer(size: int) -> Bytes:
    """A buffer that holds one raw file of ``size`` bytes (and eight more, for alignment); it can be used again."""
    return np.empty(size + 8, dtype=np.uint8)


def read_tiles(header: SubbandHeader, buffer: Bytes) -> RawTiles:
    """Read a subband's data, through the chunk index if its layout allows, else through the HDF5 library.

    Parameters
    ----------
    header
        From :func:`dsa110_resources.uvh5.read_header`.
    buffer
        From :func:`raw_buffer`; the result refers to it.
    """
    with open_raw(header.path) as file:
        tilings = {name: _find_tiling(file[f"Data/{name}"], header.path) for name in ("visdata", "flags", "nsamples")}
        dtypes = {name: file[f"Data/{name}"].dtype for name in tilings}
    vis, flags, nsamples = (tilings[name] for name in ("visdata", "flags", "nsamples"))
    if vis is None or flags is None or nsamples is None:
        return _read_through_library(header)
    pad = int(-vis.starts.flat[0]) % 8
    aligned = not np.any((vis.starts + pad) % 8) and not np.any((nsamples.starts + pad) % 4)
    if not aligned or dtypes["visdata"] != np.complex64 or dtypes["nsamples"] != np.float32:
        return _read_through_library(header)
    _read_file(header.path, buffer, pad, header.file_size)
    n_row, n_channel, n_pol = header.n_blts, header.n_channels, len(header.polarizations)
    words = len(buffer) // 8 * 8
    samples = mean_of_rows(
        buffer[:words].view(np.float32), (nsamples.starts + pad) // 4, nsamples.tile, (n_row, n_channel, n_pol)
    )
    recorded = None
    if _any_flag(buffer, flags, pad):
        recorded = read_visibilities(header)[1].reshape(n_row, n_channel, n_pol)
    tiled = TiledVisibilities(buffer[:words].view(np.complex64), (vis.starts + pad) // 8, vis.tile)
    return RawTiles(tiled, recorded, samples)


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


def _read_file(path: Path, buffer: Bytes, pad: int, size: int) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        done, view = 0, buffer.data
        while done < size:
            got = os.preadv(descriptor, [view[pad + done : pad + size]], done)
            if got == 0:
                raise CorruptInputError(f"shrank to {done} bytes while it was read", path=path, cure="copy it again")
            done += got
    finally:
        os.close(descriptor)


def _any_flag(buffer: Bytes, flags: _Tiling, pad: int) -> bool:
    size = int(np.prod(flags.tile))
    return any(buffer[start + pad : start + pad + size].any() for start in flags.starts.flat)


def _read_through_library(header: SubbandHeader) -> RawTiles:
    visibilities, flags, nsamples = read_visibilities(header)
    shape = (header.n_blts, header.n_channels, len(header.polarizations))
    recorded = flags.reshape(shape) if flags.any() else None
    means = nsamples.reshape(header.n_blts, -1).mean(axis=1, dtype=np.float64)
    return RawTiles(TiledVisibilities.from_array(visibilities.reshape(shape)), recorded, means)
