"""What a set of groups should have left behind: product, path and the figure that says how good it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dsa110_assets.defs.calibrated import calibration_record, relative
from dsa110_assets.defs.imaging import image_paths, product_paths
from dsa110_assets.defs.platform import Platform
from dsa110_resources.operations import Group
from dsa110_resources.tables import read_partition


@dataclass(frozen=True)
class Product:
    """One product and what is known of it."""

    name: str
    path: str
    exists: bool
    figure: str


def list_products(platform: Platform, groups: Sequence[Group]) -> list[Product]:
    """Every product that these groups should have."""
    products = list(_calibration(platform))
    for group in groups:
        products += _tile(platform, group)
    return products


def _calibration(platform: Platform) -> Iterator[Product]:
    for table_type in ("K", "BP", "G"):
        records = platform.operations.registry.tables(table_type)
        if not records:
            yield Product(f"{table_type} table", "caltables/", exists=False, figure="")
        for record in records:
            figure = f"{record.quality}, refant {record.refant}, {record.flux_anchor}"
            exists = record.path.is_dir() and record.active
            yield Product(f"{table_type} table", relative(record.path, platform.archive), exists, figure)


def _tile(platform: Platform, group: Group) -> Iterator[Product]:
    archive, key = platform.archive, group.partition_key
    ms = archive.find_ms(group.group_id) or archive.ms_path(group.group_id)
    index = read_partition(archive, "ms_index", key)
    yield Product("Measurement Set", relative(ms, archive), ms.is_dir() and index is not None, _flagged(index))
    record = calibration_record(archive, group.group_id)
    yield Product("calibration applied", relative(record, archive), record.is_file(), _table_set(index))
    images = read_partition(archive, "images", key)
    paths = image_paths(archive, group.group_id)
    yield Product("image", relative(paths.image, archive), "image" in product_paths(paths), _noise(images))
    measured = read_partition(archive, "photometry", key)
    path = archive.table_partition("photometry", key)
    yield Product("photometry", relative(path, archive), measured is not None, _photometry(measured))
    preview: Path = archive.thumbnail_path(group.group_id)
    yield Product("preview", relative(preview, archive), preview.is_file(), "")


def _flagged(index: pd.DataFrame | None) -> str:
    return "" if index is None else f"{index['flagged_fraction'].iloc[0]:.1%} flagged"


def _table_set(index: pd.DataFrame | None) -> str:
    return "" if index is None else str(index["table_set"].iloc[0])


def _noise(images: pd.DataFrame | None) -> str:
    if images is None or images.empty:
        return ""
    row = images[images["type"] == "image"].iloc[0]
    return f"rms {1e3 * row['noise_jy']:.2f} mJy/beam, {row['noise_ratio']:.2f} x thermal"


def _photometry(rows: pd.DataFrame | None) -> str:
    if rows is None or rows.empty:
        return ""
    residual = rows[rows["method"] == "residual"]
    bright = residual[residual["snr"] >= 20.0]
    ratio = float((bright["flux_jy"] / bright["catalog_flux_jy"]).median())
    return f"{len(residual)} sources, {int((residual['snr'] >= 5).sum())} above 5 sigma, flux ratio {ratio:.3f}"
