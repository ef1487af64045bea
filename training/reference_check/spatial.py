"""Compare pixels with golden values: validation crops, training crops and flips, RandAugment. Bytes must be equal."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float32Array, UInt8Array
from serve.contract import PreprocessContract
from serve.video.preprocess import crop_frame, join_views, normalise
from training.data.augmentation.augmentations import Frames, flip_label
from training.data.augmentation.crops import CORNERS_AND_CENTRE, THIRTEEN_OFFSETS, multiscale_box
from training.data.augmentation.randaugment import OPERATIONS, RandAugment
from training.data.augmentation.rngs import seeded_rngs
from training.data.augmentation.views import ActionClipTrainTransform, XClipTrainTransform, random_flip
from training.recipes import ACTIONCLIP, XCLIP
from training.reference_check.frames import synthetic_frame
from training.reference_check.report import ReferenceReport

PIXEL_TOLERANCE = 1e-6  # absolute, for normalised pixels
SUM_TOLERANCE = 1e-6  # for sums of normalised pixels, relative to the sum of their absolute values
SUBSAMPLING_STRIDE = 16  # of the golden arrays of large images
TRAIN_SHORT_SIDE = 36  # pixels, for the golden training crops
FLIP_PAIR = (3, 7)  # labels that a flip exchanges in the golden records


def check(folder: Path, report: ReferenceReport) -> None:
    """Compare all arrays and records in the subfolder `spatial/`."""
    spatial_folder = folder / "spatial"
    _check_frames(spatial_folder, report)
    for system, checker in (("actionclip", _check_actionclip_validation), ("xclip", _check_xclip_validation)):
        for case, arrays in _load_cases(spatial_folder, f"{system}_val", report):
            checker(case, arrays, report)
    for system, offsets in (("actionclip", THIRTEEN_OFFSETS), ("xclip", CORNERS_AND_CENTRE)):
        for record in _load_records(spatial_folder, f"{system}_multiscale_crop_boxes.json", report):
            _check_box(system, record, offsets, report)
    for case, arrays in _load_cases(spatial_folder, "actionclip_train_geom", report):
        _check_actionclip_training(case, arrays, report)
    for case, arrays in _load_cases(spatial_folder, "xclip_train_geom", report):
        _check_xclip_training(case, arrays, report)
    for record in _load_records(spatial_folder, "xclip_flip_label_map.json", report):
        is_flipped = seeded_rngs(record["np_seed"]).numpy.rand() < 0.5
        label = flip_label(FLIP_PAIR[0], dict([FLIP_PAIR])) if is_flipped else FLIP_PAIR[0]
        actual, expected = [is_flipped, label], [record["flipped"], record["label"]]
        report.compare("spatial flip labels", f"seed {record['np_seed']}", actual, expected, tolerance=0)
    for case, arrays in _load_cases(spatial_folder, "actionclip_randaugment", report):
        _check_randaugment(case, arrays, report)


def actionclip_rule(size: int) -> PreprocessContract:
    """Return ActionCLIP's preprocessing for crops of `size` pixels."""
    return ACTIONCLIP.preprocess(size)


def xclip_rule(size: int) -> PreprocessContract:
    """Return X-CLIP's preprocessing for crops of `size` pixels."""
    return XCLIP.preprocess(size)


def make_views(frames: Frames, rule: PreprocessContract, *, num_crops: int) -> UInt8Array:
    """Convert T frames to views [num_crops, T, 3, S, S]."""
    crops = np.stack([crop_frame(frame, rule, num_crops=num_crops) for frame in frames])  # [T, num_crops, 3, S, S]
    return join_views(crops[None])


def _check_actionclip_validation(
    case: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], report: ReferenceReport
) -> None:
    views = _make_case_views(case, actionclip_rule(case["input_size"]), num_crops=1)
    _check_pixels("actionclip", case, views, case["uint8_crop_sha256"], arrays, report)
    floats = normalise(views, actionclip_rule(case["input_size"]))
    _check_floats("actionclip", case, floats.reshape(-1, *floats.shape[2:]), arrays, report)  # [T*3, S, S]


def _check_xclip_validation(
    case: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], report: ReferenceReport
) -> None:
    rule = xclip_rule(case["input_size"])
    views = _make_case_views(case, rule, num_crops=3 if case["mode"] == "three" else 1)
    _check_pixels("xclip", case, views, case["uint8_sha256"], arrays, report)
    _check_floats("xclip", case, normalise(views, rule), arrays, report)


def _make_case_views(case: Mapping[str, Any], rule: PreprocessContract, *, num_crops: int) -> UInt8Array:
    """Return the preprocessed frames of a case [num_crops*T, 3, S, S], crop-major."""
    frames = [synthetic_frame(case["h"], case["w"], seed) for seed in case["frame_seeds"]]
    views = make_views(frames, rule, num_crops=num_crops)
    return views.reshape(-1, *views.shape[2:])


def _check_pixels(
    system: str,
    case: Mapping[str, Any],
    views: UInt8Array,
    hashes: list[str],
    arrays: Mapping[str, NDArray[Any]],
    report: ReferenceReport,
) -> None:
    actual = [hashlib.sha256(np.ascontiguousarray(view.transpose(1, 2, 0)).tobytes()).hexdigest() for view in views]
    differing = sum(one != other for one, other in zip(actual, hashes, strict=True))
    report.compare(f"spatial {system} validation hashes", case["key"], differing, 0, tolerance=0)
    if f"{case['key']}_uint8" in arrays:
        expected, images = arrays[f"{case['key']}_uint8"], views.transpose(0, 2, 3, 1)
        report.compare(f"spatial {system} validation bytes", case["key"], images, expected, tolerance=0)


def _check_floats(
    system: str,
    case: Mapping[str, Any],
    output: Float32Array,
    arrays: Mapping[str, NDArray[Any]],
    report: ReferenceReport,
) -> None:
    group, key = f"spatial {system} validation floats", case["key"]
    total = float(output.astype(np.float64).sum())
    report.compare(
        f"spatial {system} validation sums",
        key,
        (total - case["float_sum"]) / case["float_abs_sum"],
        0,
        tolerance=SUM_TOLERANCE,
    )
    if f"{key}_float" in arrays:
        report.compare(group, key, output, arrays[f"{key}_float"], tolerance=PIXEL_TOLERANCE)
    if f"{key}_float_stride16" in arrays:
        expected = arrays[f"{key}_float_stride16"]
        report.compare(
            group, key, output[..., ::SUBSAMPLING_STRIDE, ::SUBSAMPLING_STRIDE], expected, tolerance=PIXEL_TOLERANCE
        )


def _check_box(system: str, record: Mapping[str, Any], offsets: Any, report: ReferenceReport) -> None:
    box = multiscale_box(
        record["h"], record["w"], record["input_size"], rngs=seeded_rngs(record["py_seed"]), offsets=offsets
    )
    if system == "actionclip":
        actual = [box.width, box.height, box.left, box.top]
        expected = [record[name] for name in ("crop_w", "crop_h", "offset_x", "offset_y")]
    else:
        actual = [box.left, box.top, box.left + box.width, box.top + box.height]
        expected = record["crop_bbox_xyxy"]
    name = f"{record['w']}x{record['h']} seed {record['py_seed']}"
    report.compare(f"spatial {system} training boxes", name, actual, expected, tolerance=0)


def _check_actionclip_training(
    case: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], report: ReferenceReport
) -> None:
    expected = arrays[case["key"]]
    views, rngs = ActionClipTrainTransform(size=expected.shape[1]), seeded_rngs(case["py_seed"])
    frames = views.crop(_make_training_frames(case), rngs=rngs)
    frames = random_flip(frames, rngs=rngs, is_directional=case["is_sth"])
    report.compare("spatial actionclip training bytes", case["key"], np.stack(frames), expected, tolerance=0)


def _check_xclip_training(case: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], report: ReferenceReport) -> None:
    expected = arrays[case["key"]]
    views = XClipTrainTransform(size=expected.shape[1])
    rngs = seeded_rngs(case["py_seed"], numpy_seed=case["np_seed"])
    frames = views.crop(_make_training_frames(case), rngs=rngs, short_side=TRAIN_SHORT_SIDE)
    frames, _ = views.random_flip(frames, 0, rngs=rngs)
    report.compare("spatial xclip training bytes", case["key"], np.stack(frames), expected, tolerance=0)


def _make_training_frames(case: Mapping[str, Any]) -> Frames:
    return [synthetic_frame(case["h"], case["w"], seed) for seed in (1, 2)]


def _check_randaugment(case: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], report: ReferenceReport) -> None:
    rngs = seeded_rngs(case["py_seed"], numpy_seed=case["np_seed"])
    if "op" in case:
        augment = RandAugment(num_operations=1, magnitude=case["M"])
        value = OPERATIONS[case["op"]].value(case["M"])
        report.compare("spatial randaugment values", case["key"], value, case["val"], tolerance=1e-12)
        actual = augment.apply(arrays["input"], [case["op"]], rngs=rngs)
    else:
        augment = RandAugment(num_operations=case["N"], magnitude=case["M"])
        names = augment.sample_operations(rngs.copy_state())
        report.compare("spatial randaugment draws", case["key"], names != case["ops"], 0, tolerance=0)
        actual = augment([arrays["input"]], rngs=rngs)[0]
    report.compare("spatial randaugment bytes", case["key"], actual, arrays[case["key"]], tolerance=0)


def _check_frames(spatial_folder: Path, report: ReferenceReport) -> None:
    """Compare the synthetic frames, which all other comparisons depend on."""
    path = spatial_folder / "frames.npz"
    if report.mark_if_exists(path):
        arrays = np.load(path)
        for key in arrays.files:
            size, seed = key.split("_s")
            height, width = map(int, size.split("x"))
            report.compare("spatial frames", key, synthetic_frame(height, width, int(seed)), arrays[key], tolerance=0)
    path = spatial_folder / "actionclip_val.json"
    if path.is_file():
        for size, record in json.loads(path.read_text()).get("frames", {}).items():
            height, width = map(int, size.split("x"))
            for seed, expected in record["seeds"].items():
                actual = hashlib.sha256(synthetic_frame(height, width, int(seed)).tobytes()).hexdigest()
                report.compare("spatial frames", f"{size} seed {seed}", actual != expected, 0, tolerance=0)


def _load_records(spatial_folder: Path, name: str, report: ReferenceReport) -> Any:
    """Return the content of a JSON file, or an empty list if it does not exist."""
    path = spatial_folder / name
    return json.loads(path.read_text()) if report.mark_if_exists(path) else []


def _load_cases(
    spatial_folder: Path, stem: str, report: ReferenceReport
) -> list[tuple[Any, Mapping[str, NDArray[Any]]]]:
    """Return each case of a JSON file, with the arrays of the .npz file of the same name."""
    document = _load_records(spatial_folder, f"{stem}.json", report)
    arrays = np.load(spatial_folder / f"{stem}.npz") if report.mark_if_exists(spatial_folder / f"{stem}.npz") else {}
    return [(case, arrays) for case in (document["cases"] if isinstance(document, dict) else document)]
