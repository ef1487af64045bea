"""Load the features of a batch into the stored videos of a database; servers may use it at the same time.

Ids of the videos derive from the run and the index of the input, so a repeated import stores nothing twice, and an
import that was killed can be repeated.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from serve.access.key_store import KeyStore
from serve.api.options import StoreOptions
from serve.arrays import Float32Array
from serve.batch.folder import lock_folder, read_commits
from serve.batch.manifest import FILE, Manifest, read_manifest
from serve.batch.tables import CELL_COLUMNS, FEATURE_COLUMNS, TIME_COLUMNS, require_parquet
from serve.contract import ModelContract
from serve.data_folder import open_database
from serve.errors import InvalidOption, StaleVideo, UnknownVideo
from serve.features import VideoFeatures
from serve.models.routing import RouteStore
from serve.models.runtime import features_digest
from serve.repository import ModelReference, find_contract
from serve.settings import ServeSettings
from serve.store.database import Database
from serve.video.windows import Window
from serve.videos.records import FeaturePart, NewVideo, StoredVideoMetadata
from serve.videos.store import VideoStore
from serve.videos.writer import MIN_ABANDONED_AFTER_SECONDS, PART_BYTES, VideoSaver

ROWS_PER_READ = 4096
WINDOW_COLUMNS = (*TIME_COLUMNS, *CELL_COLUMNS)


@dataclass(kw_only=True)
class ImportCounts:
    """Numbers of videos of an import."""

    total: int
    imported: int = 0
    present: int = 0  # stored by an earlier import

    def document(self) -> dict[str, int]:
        """Return the counts as JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FeatureRows:
    """The rows of one video in a results table."""

    windows: Sequence[Window]
    features: VideoFeatures
    metadata: StoredVideoMetadata


def import_videos(
    settings: ServeSettings,
    folder: Path,
    options: StoreOptions,
    *,
    key_name: str | None,
    report: Callable[[ImportCounts], None],
) -> ImportCounts:
    """Store the videos of an output folder that are not stored yet.

    Raises:
        InvalidOption: the folder has no features, an option is invalid, or a table is damaged.
        StaleVideo: the active version of the model computes other features; nothing was stored.
        UnknownKey: there is no valid API key of this name.
        VideoStoreFull, StoreUnavailable: the database cannot store a video; earlier videos are stored.
    """
    manifest = _read_importable(folder)
    require_parquet("actserve videos import")
    database = open_database(settings)
    try:
        database.migrate()
        contract = _check_model(database, settings, manifest)
        key_id = None if key_name is None else KeyStore(database).get_valid(key_name).key_id
        store = VideoStore(database, max_bytes=settings.videos.max_bytes)
        VideoSaver(store, settings.videos, deadline_seconds=0).check(options)
        with lock_folder(folder):
            counts = ImportCounts(total=sum(len(commit.completed) for commit in read_commits(folder)))
            report(counts)
            for index, rows in _iterate_videos(folder, contract):
                video = _new_video(manifest, index, options, settings, key_id=key_id)
                if _is_stored(store, video.video_id):
                    counts.present += 1
                else:
                    _store(store, video, rows)
                    counts.imported += 1
                report(counts)
        return counts
    finally:
        database.close()


def _read_importable(folder: Path) -> Manifest:
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None:
        raise InvalidOption(f"{folder} has no {FILE}: it is not an output folder of `actserve batch`")
    if not manifest.settings.features:
        raise InvalidOption(f"{folder} has no features; write them with `actserve batch --features`")
    return manifest


def _check_model(database: Database, settings: ServeSettings, manifest: Manifest) -> ModelContract:
    """Return the contract of the active version of the model, which must compute the same features.

    Raises:
        StaleVideo: it does not, or the model is not active.
        UnknownModel, ContractError: the active version cannot be read.
    """
    recorded = manifest.settings
    versions = RouteStore(database, configured=settings.model).load().versions
    references = [f"{name}@{version}" for name, version in versions.items()] or [settings.model]
    active = {
        f"{contract.name}@{contract.version}": contract
        for contract in (find_contract(settings.repository, reference) for reference in references)
    }
    contract = active.get(recorded.model)
    if contract is None:
        raise StaleVideo(
            f"the features were computed by {recorded.model}, but the active model is {', '.join(active)}, which "
            "cannot score them; activate that version, or run the batch with the active one"
        )
    if features_digest(contract) != recorded.features_digest:
        raise StaleVideo(
            f"the features were computed by another {recorded.model}: the files of the version differ; run the batch "
            "with the model of this repository"
        )
    return contract


def make_video_id(manifest: Manifest, index: int) -> str:
    """Return the id under which the video of an input is stored."""
    return hashlib.sha256(f"{manifest.run_id}/{index}".encode()).hexdigest()[:32]


def _new_video(
    manifest: Manifest, index: int, options: StoreOptions, settings: ServeSettings, *, key_id: str | None
) -> NewVideo:
    made_by = ModelReference.parse(manifest.settings.model)
    assert made_by.version is not None, "the manifest names a version"
    return NewVideo(
        video_id=make_video_id(manifest, index),
        kind="windows" if manifest.settings.kind == "timeline" else "clips",
        model_name=made_by.name,
        model_version=made_by.version,
        model_digest=manifest.settings.features_digest,
        tags=tuple(dict.fromkeys(options.tags or ())),
        key_id=key_id,
        expires_in_seconds=options.expires_in_seconds or settings.videos.keep_seconds,
        abandoned_after_seconds=MIN_ABANDONED_AFTER_SECONDS,
    )


def _is_stored(store: VideoStore, video_id: str) -> bool:
    try:
        store.get(video_id)
    except UnknownVideo:
        return False
    return True


def _store(store: VideoStore, video: NewVideo, rows: FeatureRows) -> None:
    """Store a video in parts; what an import that was killed has left of it is deleted first."""
    with suppress(UnknownVideo):
        store.delete(video.video_id)  # it has expired
    store.abandon(video.video_id)
    features = rows.features
    step = max(1, PART_BYTES // features.rows(0, 1).num_bytes)
    starts = range(0, len(rows.windows), step)
    try:
        for number, start in enumerate(starts):
            stop = start + step
            part = FeaturePart(windows=rows.windows[start:stop], features=features.rows(start, stop))
            if start == starts[-1]:
                store.complete(video, number, part, rows.metadata)
            else:
                store.add_part(video, number, part)
    except BaseException:
        store.abandon(video.video_id)
        raise


def _iterate_videos(folder: Path, contract: ModelContract) -> Iterator[tuple[int, FeatureRows]]:
    """Yield (index of the input, rows) for all videos; the rows of a video are consecutive in one table."""
    import pyarrow as pa

    for commit in read_commits(folder):
        for name in commit.files:
            if not name.startswith("results/"):
                continue
            try:
                yield from _read_table(folder / name, contract)
            except (pa.ArrowException, ValidationError, ValueError, TypeError, KeyError, OSError) as error:
                raise InvalidOption(f"{folder / name} is damaged: {str(error)[:300]}") from error


def _read_table(path: Path, contract: ModelContract) -> Iterator[tuple[int, FeatureRows]]:
    import pyarrow as pa
    from pyarrow import parquet

    widths = {
        "video_features": contract.embed_dim,
        "prototype_features": contract.prototype_dim,
        "patch_features": contract.num_patches * contract.embed_dim,
    }
    columns = [name for name in FEATURE_COLUMNS if widths[name]]
    with parquet.ParquetFile(path) as table:
        waiting: list[Any] = []  # parts of the last video, which may go on in the next batch
        for batch in table.iter_batches(ROWS_PER_READ, columns=["index", "metadata", *WINDOW_COLUMNS, *columns]):
            indices = batch.column("index").to_numpy()
            edges = [0, *(np.flatnonzero(np.diff(indices)) + 1).tolist(), len(indices)]
            for start, stop in pairwise(edges):
                part = batch.slice(start, stop - start)
                if waiting and waiting[0]["index"][0] != part["index"][0]:
                    yield _to_rows(pa.Table.from_batches(waiting), columns, widths, contract)
                    waiting = []
                waiting.append(part)
        if waiting:
            yield _to_rows(pa.Table.from_batches(waiting), columns, widths, contract)


def _to_rows(
    table: Any, columns: Sequence[str], widths: dict[str, int], contract: ModelContract
) -> tuple[int, FeatureRows]:
    """Return (index of the input, rows) of the table of one video.

    Raises:
        ValueError: features are missing, not finite or of the wrong width.
    """
    arrays = {name: _to_array(table[name], len(table), widths[name]) for name in columns}
    patches = arrays.get("patch_features")
    cells = table.select(WINDOW_COLUMNS)
    if any(column.null_count for column in cells.columns):
        raise ValueError("a window has no times")
    rows = FeatureRows(
        windows=[Window(**row, frame_indices=()) for row in cells.to_pylist()],
        features=VideoFeatures(
            video_features=arrays["video_features"],
            prototype_features=arrays.get("prototype_features"),
            patch_features=None if patches is None else patches.reshape(len(table), contract.num_patches, -1),
        ),
        metadata=StoredVideoMetadata.model_validate_json(table["metadata"][0].as_py()),
    )
    return int(table["index"][0].as_py()), rows


def _to_array(column: Any, num_rows: int, width: int) -> Float32Array:
    values: Float32Array = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    if values.size != num_rows * width or not np.isfinite(values).all():
        raise ValueError(f"{values.size} features, expected {num_rows} rows of {width} finite numbers")
    return values.reshape(num_rows, width)
