"""The fast way into a raw subband: its bytes as they lie, and where each HDF5 chunk starts in them.

The writer's chunks are small (128 rows of 12 channels of one polarisation) and not compressed, so decoding them through
the library costs more than reading them; the rephasing kernel walks the chunks itself.
"""

import os
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.phasing import Floats, Ints, TiledVisibilities, mean_of_rows
from dsa110_resources.errors import CorruptInputError
from dsa110_resources.uvh5 import SubbandHeader, open_raw, read_visibilities

Bytes = npt.NDArray[np.uint8]
_DTYPES: dict[str, type[np.generic]] = {"visdata": np.complex64, "flags": np.bool_, "nsamples": np.float32}
_WORD = 8
_MOST_WASTE = 3
"""Chunks further apart than this many times their size are left to the library."""


@dataclass(frozen=True, eq=False)
class RawTiles:
    """Some integrations of one subband, not yet unfolded; valid until the same thread reads the next.

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
    """Where a dataset's chunks lie in the file, in bytes, shape (row tiles, channel tiles, polarisation tiles)."""

    starts: Ints
    tile: tuple[int, int, int]
    size: int

    def rows(self, start: int, stop: int) -> Ints:
        return self.starts[start // self.tile[0] : -(-stop // self.tile[0])]


class SubbandReader:
    """A raw subband opened for reading integrations; a context manager, usable by several threads.

    Parameters
    ----------
    header
        From :func:`dsa110_resources.uvh5.read_header`.
    """

    def __init__(self, header: SubbandHeader) -> None:
        self.header = header
        self._local = threading.local()
        with open_raw(header.path) as file:
            found = {name: _find_tiling(file[f"Data/{name}"], header) for name in _DTYPES}
        tilings = {name: tiling for name, tiling in found.items() if tiling is not None}
        self._tilings = tilings if len(tilings) == len(found) else {}
        self._descriptor = os.open(header.path, os.O_RDONLY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def read(self, start: int = 0, stop: int | None = None) -> RawTiles:
        """Integrations ``start`` to ``stop``: by the chunk index if the layout allows, else through the library."""
        header = self.header
        times = slice(start, header.n_times if stop is None else stop)
        row, end = times.start * header.n_baselines, times.stop * header.n_baselines
        shape = (end - row, header.n_channels, len(header.polarizations))
        blocks = {name: self._block(name, row, end) for name in _DTYPES} if self._tilings else {}
        if not blocks or any(block is None for block in blocks.values()):
            return _read_through_library(header, times, shape)
        flat, starts = self._words("visdata", *blocks["visdata"])  # type: ignore[misc]
        tile = self._tilings["visdata"].tile
        visibilities = TiledVisibilities(flat, starts, tile, row % tile[0], header.descending)
        flat, starts = self._words("nsamples", *blocks["nsamples"])  # type: ignore[misc]
        tile = self._tilings["nsamples"].tile
        nsamples = mean_of_rows(flat, starts, tile, shape, first_row=row % tile[0])
        recorded = None
        if self._any_flag(*blocks["flags"]):  # type: ignore[misc]
            recorded = read_visibilities(header, times=times)[1].reshape(shape)
        return RawTiles(visibilities, recorded, nsamples)

    def _block(self, name: str, row: int, end: int) -> tuple[Bytes, Ints] | None:
        """Bytes that hold all chunks of some rows, and where they start; None if they are strewn or misaligned."""
        tiling = self._tilings[name]
        starts = tiling.rows(row, end)
        first, length = int(starts.min()), int(starts.max()) + tiling.size - int(starts.min())
        if length > _MOST_WASTE * tiling.size * starts.size or np.any((starts - first) % _DTYPES[name](0).itemsize):
            return None
        return self._read(name, first, length), starts - first

    def _read(self, name: str, first: int, length: int) -> Bytes:
        """Read into this thread's own buffer, which is used again (touching fresh memory costs as much as reading)."""
        buffers: dict[str, Bytes] = self._local.__dict__
        buffer = buffers.get(name)
        if buffer is None or len(buffer) < length:
            buffer = buffers[name] = np.empty(-(-length // _WORD) * _WORD, np.uint8)
        done = 0
        while done < length:
            got = os.preadv(self._descriptor, [buffer.data[done:length]], first + done)
            if got == 0:
                raise CorruptInputError(
                    f"ends at byte {first + done} now: it shrank while it was read",
                    path=self.header.path,
                    cure="let the copy finish, then retry",
                )
            done += got
        return buffer

    @staticmethod
    def _words(name: str, content: Bytes, starts: Ints) -> tuple[npt.NDArray[Any], Ints]:
        size = _DTYPES[name](0).itemsize
        return content[: len(content) // size * size].view(_DTYPES[name]), starts // size

    def _any_flag(self, content: Bytes, starts: Ints) -> bool:
        size = self._tilings["flags"].size
        return any(content[start : start + size].any() for start in starts.flat)


def _find_tiling(dataset: h5py.Dataset, header: SubbandHeader) -> _Tiling | None:
    """Where a dataset's chunks lie; None if the library must decode it (filters, another type, no chunks)."""
    name = dataset.name.rsplit("/", 1)[1]
    if dataset.chunks is None or dataset.id.get_create_plist().get_nfilters() or dataset.dtype != _DTYPES[name]:
        return None
    rows, _, channels, pols = dataset.chunks
    n_row, _, n_channel, n_pol = dataset.shape
    starts = np.full((-(-n_row // rows), -(-n_channel // channels), -(-n_pol // pols)), -1, dtype=np.int64)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        row, _, channel, pol = chunk.chunk_offset
        starts[row // rows, channel // channels, pol // pols] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    if np.any(starts < 0):
        raise CorruptInputError(
            f"{int((starts < 0).sum())} of {starts.size} tiles of {dataset.name} were never written",
            path=header.path,
            cure="copy it again from its node",
        )
    return _Tiling(starts, (rows, channels, pols), rows * channels * pols * dataset.dtype.itemsize)


def _read_through_library(header: SubbandHeader, times: slice, shape: tuple[int, int, int]) -> RawTiles:
    visibilities, flags, nsamples = read_visibilities(header, times=times)
    recorded = flags.reshape(shape) if flags.any() else None
    means = nsamples.reshape(shape[0], -1).mean(axis=1, dtype=np.float64)
    return RawTiles(
        TiledVisibilities.from_array(visibilities.reshape(shape), descending=header.descending), recorded, means
    )
