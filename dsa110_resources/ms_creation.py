"""The empty Measurement Set: columns, storage managers and tiles, shared by everything that creates columns.

Tiles hold 48 channels (or the table's own number if that is less) of a quarter of an integration, about 1 MB of
visibilities: a block of integrations and a range of channels are both read as whole tiles.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_resources.casacore_tables import typed_errors
from dsa110_resources.disk_space import require_room, reserve

CHANNELS_PER_TILE = 48
_SMALL_COLUMNS_BYTES = 16_000_000
_TILE_VALUES = 2 * CHANNELS_PER_TILE * 1200

CONSTANT_COLUMNS = (
    "ARRAY_ID",
    "DATA_DESC_ID",
    "EXPOSURE",
    "FEED1",
    "FEED2",
    "FIELD_ID",
    "INTERVAL",
    "OBSERVATION_ID",
    "PROCESSOR_ID",
    "SCAN_NUMBER",
    "STATE_ID",
    "TIME",
    "TIME_CENTROID",
)


def tile_shape(n_pol: int, n_channel: int, n_baseline: int) -> list[int]:
    """Tile of a (pol, channel, row) column: whole fractions of an integration, so that time blocks align with tiles."""
    channels = min(n_channel, CHANNELS_PER_TILE)
    parts = max(1, math.ceil(n_baseline * n_pol * channels / _TILE_VALUES))
    return [n_pol, channels, math.ceil(n_baseline / parts)]


def column_description(name: str, kind: str, shape: tuple[int, int]) -> dict[str, Any]:
    """Description of a tiled (channel, pol) column of value type ``complex``, ``float`` or ``boolean``."""
    from casacore.tables import makearrcoldesc

    values = {"complex": 0j, "float": 0.0, "boolean": False}
    description: dict[str, Any] = makearrcoldesc(
        name,
        values[kind],
        ndim=2,
        shape=list(shape),
        options=5,
        datamanagertype="TiledColumnStMan",
        datamanagergroup=f"Tiled{name}",
        valuetype=kind,
        comment=f"the {name} column",
    )
    return description


def data_manager(name: str, tile: list[int]) -> dict[str, Any]:
    """Tiled storage of one column."""
    return {
        "TYPE": "TiledColumnStMan",
        "NAME": f"Tiled{name}",
        "COLUMNS": [name],
        "SPEC": {"DEFAULTTILESHAPE": np.array(tile, dtype=np.int32)},
    }


def create_measurement_set(path: Path, *, n_baseline: int, n_time: int, n_channel: int, n_pol: int) -> None:
    """Create a Measurement Set of zeros; see :func:`new_measurement_set`, which saves writing them."""
    with new_measurement_set(path, n_baseline=n_baseline, n_time=n_time, n_channel=n_channel, n_pol=n_pol):
        pass


@contextmanager
def new_measurement_set(path: Path, *, n_baseline: int, n_time: int, n_channel: int, n_pol: int) -> Iterator[Any]:
    """Create a Measurement Set with DATA, its rows allocated and its subtables empty, and hold it open for writing.

    What has not been written when it is closed becomes zeros on disk: write DATA and FLAG in order of rows before.

    Parameters
    ----------
    path
        Must not exist.
    n_baseline, n_time
        Rows are time-major: n_time times n_baseline.
    n_channel, n_pol
        Shape of DATA and FLAG.
    """
    from casacore.tables import default_ms, maketabdesc, required_ms_desc

    values = n_baseline * n_time * n_channel * n_pol
    require_room(path.parent, 8 * values + values // 8 + _SMALL_COLUMNS_BYTES)
    required = required_ms_desc()
    cube = tile_shape(n_pol, n_channel, n_baseline)
    tiles = {
        "DATA": cube,
        "FLAG": [n_pol, cube[1], n_baseline],
        "UVW": [3, n_baseline],
        "WEIGHT": [n_pol, n_baseline],
        "SIGMA": [n_pol, n_baseline],
    }
    shapes = {"FLAG": [n_channel, n_pol], "UVW": [3], "WEIGHT": [n_pol], "SIGMA": [n_pol]}
    columns = dict(maketabdesc([column_description("DATA", "complex", (n_channel, n_pol))]))
    columns["DATA"]["keywords"] = {"UNIT": ""}
    for name, shape in shapes.items():
        # An entry of the required description is changed, not replaced: it carries the units and measure frames.
        entry = dict(required[name])
        entry |= {"dataManagerType": "TiledColumnStMan", "dataManagerGroup": f"Tiled{name}", "option": 5}
        columns[name] = entry | {"ndim": len(shape), "shape": np.array(shape, dtype=np.int32)}
    for name in CONSTANT_COLUMNS:
        columns[name] = dict(required[name]) | {"dataManagerType": "IncrementalStMan", "dataManagerGroup": "Constant"}
    managers = {f"*{i}": data_manager(name, tile) for i, (name, tile) in enumerate(tiles.items(), start=1)}
    table = default_ms(str(path), columns, managers)
    try:
        table.addrows(n_baseline * n_time)
        for name in ("DATA", "FLAG"):
            _reserve_column(table, name)
        with typed_errors(path):
            yield table
    finally:
        table.close()


def _reserve_column(table: Any, name: str) -> None:
    """Reserve the blocks of a tiled column (FLAG holds bits)."""
    info = table.getdminfo(name)
    cube = info["SPEC"]["HYPERCUBES"]["*1"]
    n_tiles = np.prod([math.ceil(n / t) for n, t in zip(cube["CubeShape"], cube["TileShape"], strict=True)])
    reserve(Path(table.name()) / f"table.f{info['SEQNR']}_TSM0", int(n_tiles) * int(cube["BucketSize"]))


def add_data_column(table: Any, name: str, kind: str, *, n_baseline: int) -> None:
    """Add MODEL_DATA, CORRECTED_DATA or WEIGHT_SPECTRUM to an open table, tiled like DATA."""
    from casacore.tables import maketabdesc

    n_channel, n_pol = (int(n) for n in table.getcell("DATA", 0).shape)
    description = maketabdesc([column_description(name, kind, (n_channel, n_pol))])
    item = np.dtype({"complex": "c8", "float": "f4", "boolean": "?"}[kind]).itemsize
    require_room(Path(table.name()), item * table.nrows() * n_channel * n_pol + _SMALL_COLUMNS_BYTES)
    table.addcols(description, data_manager(name, tile_shape(n_pol, n_channel, n_baseline)))
    _reserve_column(table, name)
