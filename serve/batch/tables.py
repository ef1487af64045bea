"""Parquet tables of a batch (extra `batch`): a row per window of a timeline, clip of a classification, or embedding.

The scores of a classification belong to the whole video and are the same in all rows of its clips. Features are float32
values that were rounded as stored videos are (`serve.videos.half_precision`), so that an import changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serve.arrays import Float32Array
from serve.batch.features import CollectedVideo
from serve.extras import require_extra
from serve.jobs.records import JobKind

SCHEMA_METADATA = b"actserve"  # key of the manifest in the metadata of a table
FEATURE_COLUMNS = ("video_features", "prototype_features", "patch_features")
TIME_COLUMNS = ("start_seconds", "end_seconds", "start_frame", "end_frame")
CELL_COLUMNS = ("cell_start_seconds", "cell_end_seconds", "cell_start_frame", "cell_end_frame")
ROWS_PER_GROUP = 10_000


@dataclass(frozen=True, kw_only=True)
class CompletedInput:
    """A result with the features of its video, if they are written."""

    index: int
    name: str
    result: dict[str, Any]
    collected: CollectedVideo | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows of the results table."""
        if self.collected is not None:
            return len(self.collected.windows)
        windows: list[Any] | None = self.result.get("windows")
        return 1 if windows is None else len(windows)


def require_parquet(needed_by: str) -> None:
    """Check that tables can be written.

    Raises:
        MissingExtra: the extra `batch` is not installed.
    """
    require_extra("batch", needed_by=needed_by)


def write_results(path: Path, kind: JobKind, completed: Sequence[CompletedInput], *, manifest: str) -> int:
    """Write the results table and return its number of rows."""
    rows = [row for item in completed for row in _ROWS[kind](item)]
    features = [item.collected for item in completed if item.collected is not None]
    return _write(path, _results_schema(kind, has_features=bool(features)), rows, features, manifest=manifest)


def write_segments(path: Path, completed: Sequence[CompletedInput], *, manifest: str) -> int:
    """Write the segments of timelines and return their number."""
    rows = [
        {"index": item.index, "input": item.name, **segment}
        for item in completed
        for segment in item.result["segments"] or ()
    ]
    return _write(path, _segments_schema(), rows, (), manifest=manifest)


def _write(
    path: Path, fields: list[Any], rows: list[dict[str, Any]], features: Sequence[CollectedVideo], *, manifest: str
) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(fields, metadata={SCHEMA_METADATA: manifest.encode()})
    table = pa.Table.from_pylist(rows, schema=schema)
    for name, values in _join_features(features):
        width = values.shape[1]
        flat = pa.array(values.reshape(-1), pa.float32())
        table = table.append_column(name, pa.FixedSizeListArray.from_arrays(flat, width))
    plain = [name for name in FEATURE_COLUMNS if name in table.column_names]
    parquet.write_table(
        table,
        path,
        compression="zstd",
        row_group_size=ROWS_PER_GROUP,
        use_dictionary=[name for name in table.column_names if name not in plain],
        use_byte_stream_split=[f"{name}.list.element" for name in plain],  # groups equal bytes for the compression
    )
    return int(table.num_rows)


def _join_features(features: Sequence[CollectedVideo]) -> Iterable[tuple[str, Float32Array]]:
    """Yield (column, values [N, W]) for the features that the model computes."""
    for name in FEATURE_COLUMNS:
        parts = [getattr(part.features, name) for video in features for part in video.parts]
        present = [part.reshape(len(part), -1) for part in parts if part is not None]
        if present:
            yield name, np.concatenate(present)


def _label_columns(results: Iterable[dict[str, Any]]) -> dict[str, Any]:
    results = list(results)
    columns = {"labels": "label", "scores": "score", "logits": "logit", "cosines": "cosine", "accepted": "accepted"}
    return {column: [result[name] for result in results] for column, name in columns.items()}


def _classify_rows(item: CompletedInput) -> Iterable[dict[str, Any]]:
    result, sampling = item.result, item.result["sampling"]
    shared = {
        "index": item.index,
        "input": item.name,
        **{name: sampling[name] for name in ("num_frames", "fps", "duration_seconds", "width", "height")},
        "num_corrupt_frames": sampling["num_corrupt_frames"],
        **_label_columns(result["results"]),
        "none_of_these": result["none_of_these"]["score"],
        "rejected": result["none_of_these"]["rejected"],
        **_metadata(item),
    }
    cells = _cells(item)
    num_clips = sampling["num_clips"]
    for view in range(num_clips * sampling["num_crops"]):
        yield {**shared, "clip": view % num_clips, "crop": view // num_clips, **(cells[view] if cells else {})}


def _timeline_rows(item: CompletedInput) -> Iterable[dict[str, Any]]:
    video = item.result["video"]
    shared = {"index": item.index, "input": item.name, **video, **_metadata(item)}
    cells = _cells(item)
    for number, window in enumerate(item.result["windows"]):
        times = {name: window[name] for name in TIME_COLUMNS}
        yield {
            **shared,
            "window": number,
            **times,
            **_label_columns(window["results"]),
            "none_of_these": window["none_of_these"],
            **(cells[number] if cells else {}),
        }


def _embed_rows(item: CompletedInput) -> Iterable[dict[str, Any]]:
    (embedding,) = item.result["data"]
    yield {"index": item.index, "input": item.name, "embedding": embedding["embedding"]}


def _metadata(item: CompletedInput) -> dict[str, Any]:
    return {} if item.collected is None else {"metadata": item.collected.metadata.model_dump_json()}


def _cells(item: CompletedInput) -> list[dict[str, Any]]:
    """Return the exact times of the windows, which an import needs; empty without features."""
    if item.collected is None:
        return []
    names = (*TIME_COLUMNS, *CELL_COLUMNS)
    return [{name: getattr(window, name) for name in names} for window in item.collected.windows]


_ROWS = {"classify": _classify_rows, "timeline": _timeline_rows, "embed": _embed_rows}


def _results_schema(kind: JobKind, *, has_features: bool) -> list[Any]:
    import pyarrow as pa

    text, whole, small, real = pa.string(), pa.int64(), pa.int32(), pa.float64()
    head = [pa.field("index", whole), pa.field("input", text)]
    if kind == "embed":
        return [*head, pa.field("embedding", pa.list_(pa.float32()))]
    video = [
        pa.field("num_frames", whole), pa.field("fps", real), pa.field("duration_seconds", real),
        pa.field("width", small), pa.field("height", small), pa.field("num_corrupt_frames", whole),
    ]  # fmt: skip
    times, cells = (
        [pa.field(name, real if name.endswith("seconds") else whole) for name in names]
        for names in (TIME_COLUMNS, CELL_COLUMNS)
    )
    labels = [
        pa.field("labels", pa.list_(text)), pa.field("scores", pa.list_(real)), pa.field("logits", pa.list_(real)),
        pa.field("cosines", pa.list_(real)), pa.field("accepted", pa.list_(pa.bool_())),
        pa.field("none_of_these", real),
    ]  # fmt: skip
    stored = [*cells, pa.field("metadata", text)] if has_features else []
    if kind == "classify":
        place = [pa.field("clip", small), pa.field("crop", small), *(times if has_features else ())]
        return [*head, *place, *video, *labels, pa.field("rejected", pa.bool_()), *stored]
    return [*head, pa.field("window", small), *times, *video, pa.field("truncated", pa.bool_()), *labels, *stored]


def _segments_schema() -> list[Any]:
    import pyarrow as pa

    real, whole = pa.float64(), pa.int64()
    return [
        pa.field("index", whole), pa.field("input", pa.string()), pa.field("label", pa.string()),
        pa.field("start_seconds", real), pa.field("end_seconds", real), pa.field("start_frame", whole),
        pa.field("end_frame", whole), pa.field("score", real), pa.field("peak_seconds", real),
    ]  # fmt: skip
