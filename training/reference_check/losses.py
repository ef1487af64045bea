"""Compare losses, mixing, learning rates and optimiser groups with golden records of ActionCLIP and X-CLIP."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Parameter, functional

from training.data.augmentation.crops import CropBox
from training.data.augmentation.mixing import cutmix, cutmix_box, mixup, smoothed_targets
from training.data.augmentation.rngs import seeded_rngs
from training.losses import actionclip_kl, kl_to_labels, label_targets, smoothed_cross_entropy, soft_cross_entropy
from training.optimisers import actionclip_optimiser
from training.reference_check.report import ReferenceReport
from training.schedules import actionclip_cosine, actionclip_multistep, xclip_cosine

LOSS_TOLERANCE = 1e-5  # absolute, for losses up to 30
LR_TOLERANCE = 1e-12  # relative, for learning rates in double precision


def check(folder: Path, report: ReferenceReport) -> None:
    """Compare all records in the subfolder `losses/`."""
    losses_folder = folder / "losses"
    for record in _load_records(losses_folder / "actionclip_kl.json", report):
        _check_kl(record, report)
    for number, record in enumerate(_load_records(losses_folder / "actionclip_lr.json", report)):
        _check_actionclip_rates(f"case {number}", record, report)
    for number, case in enumerate(_load_records(losses_folder / "xclip_lr.json", report, "cases")):
        _check_xclip_rates(f"case {number}", case, report)
    for record in _load_records(losses_folder / "xclip_losses.json", report, "label_smoothing"):
        _check_smoothing(record, report)
    for record in _load_records(losses_folder / "xclip_cutmix_bbox.json", report):
        rngs = seeded_rngs(record["torch_seed"])
        box = cutmix_box(record["img_h"], record["img_w"], weight=record["lam"], rngs=rngs)
        report.compare(
            "losses cutmix boxes", f"seed {record['torch_seed']}", _box_corners(box), record["bbox"], tolerance=0
        )
    arrays = (
        np.load(losses_folder / "xclip_blending.npz")
        if report.mark_if_exists(losses_folder / "xclip_blending.npz")
        else None
    )
    for record in _load_records(losses_folder / "xclip_losses.json", report, "blending"):
        if arrays is not None:
            _check_blending(record, arrays, report)


def _check_kl(record: Mapping[str, Any], report: ReferenceReport) -> None:
    name, labels = f"seed {record['seed']}", torch.tensor(record["labels"])
    video, text = (functional.normalize(torch.tensor(record[key]), dim=-1) for key in ("x_image", "x_text"))
    logits = record["logit_scale_exp"] * video @ text.T
    report.compare("losses actionclip logits", name, logits, record["logits_per_image"], tolerance=2e-4)
    report.compare("losses actionclip logits", name, logits.T, record["logits_per_text"], tolerance=2e-4)
    is_same_label = labels[:, None] == labels[None, :]
    report.compare("losses actionclip targets", name, is_same_label, record["ground_truth"], tolerance=0)
    targets = label_targets(labels)
    report.compare("losses actionclip targets, softened", name, targets, record["target_softmax"], tolerance=1e-6)
    actual = [kl_to_labels(logits, targets), kl_to_labels(logits.T, targets), actionclip_kl(logits, labels)]
    expected = [record[key] for key in ("loss_imgs", "loss_texts", "total_loss")]
    report.compare("losses actionclip kl", name, actual, expected, tolerance=LOSS_TOLERANCE)


def _check_actionclip_rates(name: str, record: Mapping[str, Any], report: ReferenceReport) -> None:
    solver, groups = record["solver"], record["groups"]
    parameters = [(_strip_prefix(item), Parameter(torch.zeros(2))) for group in groups for item in group["params"]]
    optimiser = actionclip_optimiser(
        parameters,
        kind=solver["optim"],
        lr=solver["lr"],
        weight_decay=solver["weight_decay"],
        vision_ratio=solver["ratio"],
        fusion_ratio=solver["f_ratio"],
        momentum=solver["momentum"],
    )
    actual = [sorted(group["names"]) for group in optimiser.param_groups]
    expected = [sorted(map(_strip_prefix, group["params"])) for group in groups]
    report.compare("losses actionclip groups", name, actual != expected, 0, tolerance=0)
    for ours, theirs in zip(optimiser.param_groups, groups, strict=False):
        for key in ("weight_decay", "betas", "eps", "momentum"):
            if theirs[key] is not None:
                report.compare("losses actionclip groups", f"{name} {key}", ours[key], theirs[key], tolerance=0)
    for row in record["table"]:
        rates = [_actionclip_rate(row["epoch"] or 0.0, group["lr"], solver) for group in optimiser.param_groups]
        report.compare(
            "losses actionclip rates",
            f"{name} epoch {row['epoch']}",
            _max_relative_error(rates, row["lrs"]),
            0,
            tolerance=LR_TOLERANCE,
        )


def _actionclip_rate(epoch: float, lr: float, solver: Mapping[str, Any]) -> float:
    warmup = solver["lr_warmup_step"]
    if solver["type"] == "cosine":
        return actionclip_cosine(epoch, lr=lr, warmup_epochs=warmup, epochs=solver["epochs"])
    return actionclip_multistep(epoch, lr=lr, warmup_epochs=warmup, drop_epochs=solver["lr_decay_step"])


def _check_xclip_rates(name: str, case: Mapping[str, Any], report: ReferenceReport) -> None:
    for row in case["table"]:
        rates = [
            xclip_cosine(
                row["update"] or 0,
                lr=factor * case["base_lr"],
                min_lr=case["base_lr"] / 100,
                warmup_steps=case["warmup_epochs"] * case["iters_per_epoch"],
                total_steps=case["epochs"] * case["iters_per_epoch"],
            )
            for factor in (1, 10)
        ]
        report.compare(
            "losses xclip rates",
            f"{name} update {row['update']}",
            _max_relative_error(rates, row["lrs"]),
            0,
            tolerance=LR_TOLERANCE,
        )


def _check_smoothing(record: Mapping[str, Any], report: ReferenceReport) -> None:
    name, logits, labels = f"seed {record['seed']}", torch.tensor(record["logits"]), torch.tensor(record["labels"])
    targets = smoothed_targets(labels, logits.shape[1], smoothing=record["smoothing"])
    if record["soft_onehot"] is not None:
        report.compare("losses smoothed targets", name, targets, record["soft_onehot"], tolerance=1e-7)
    actual = [
        smoothed_cross_entropy(logits, labels, smoothing=record["smoothing"]),
        soft_cross_entropy(logits, targets),
        smoothed_cross_entropy(logits, labels, smoothing=0.0),
    ]
    expected = [record[f"loss_{key}_ce"] for key in ("label_smoothing", "soft_target", "plain")]
    report.compare("losses cross entropy", name, actual, expected, tolerance=LOSS_TOLERANCE)


def _check_blending(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], report: ReferenceReport) -> None:
    """Compare mixed clips.

    Weight, partners and box are taken from the record, because beta samples differ between torch versions.
    """
    name = f"case{record['case']}"
    clips = torch.from_numpy(arrays[f"{name}_in"].astype(np.float32))
    order = torch.tensor(record["perm"])
    targets = smoothed_targets(torch.tensor(record["labels"]), record["num_classes"], smoothing=record["smoothing"])
    if record["mode"] == "mixup":
        mixed, targets = mixup(clips, targets, weight=record["sampled_lambda"], permutation=order)
    else:
        left, top, right, bottom = record["bbox_x1y1x2y2"]
        box = CropBox(left=left, top=top, width=right - left, height=bottom - top)
        mixed, targets = cutmix(clips, targets, box=box, permutation=order)
        effective_weight = 1 - box.width * box.height / (clips.shape[-1] * clips.shape[-2])
        report.compare("losses cutmix weights", name, effective_weight, record["effective_lambda"], tolerance=1e-12)
    is_cutmix = seeded_rngs(record["seed_all"]).numpy.rand() < 0.5
    report.compare("losses mixing choice", name, is_cutmix, record["mode"] == "cutmix", tolerance=0)
    report.compare("losses mixed clips", name, mixed, arrays[f"{name}_out"], tolerance=1e-6)
    report.compare("losses mixed targets", name, targets, arrays[f"{name}_target"], tolerance=1e-6)
    loss = soft_cross_entropy(torch.from_numpy(arrays[f"{name}_logits"]), targets)
    report.compare("losses of mixed clips", name, loss, record["loss"], tolerance=LOSS_TOLERANCE)


def _max_relative_error(actual: list[float], expected: list[float]) -> float:
    """Return the largest difference relative to the expected value; infinity if the lengths differ."""
    return (
        max(abs(one - other) / other if other else abs(one) for one, other in zip(actual, expected, strict=True))
        if len(actual) == len(expected)
        else math.inf
    )


def _box_corners(box: CropBox) -> list[int]:
    return [box.left, box.top, box.left + box.width, box.top + box.height]


def _strip_prefix(name: str) -> str:
    return name.removeprefix("model.")


def _load_records(path: Path, report: ReferenceReport, key: str | None = None) -> list[Any]:
    """Return the records of a JSON file, or of one key of it; empty if the file does not exist."""
    if not report.mark_if_exists(path):
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    records: list[Any] = document if key is None else document.get(key, [])
    return records
