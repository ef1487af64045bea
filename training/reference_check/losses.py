"""Compare losses, mixing, schedules and optimiser groups with golden ones."""

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

LOSSES = 1e-5  # of losses up to 30
RATES = 1e-12  # relative, of learning rates in double precision


def check(folder: Path, report: ReferenceReport) -> None:
    """Compare all records of the folder's `losses/`."""
    site = folder / "losses"
    for record in _document(site / "actionclip_kl.json", report):
        _check_kl(record, report)
    for number, record in enumerate(_document(site / "actionclip_lr.json", report)):
        _check_actionclip_rates(f"case {number}", record, report)
    for number, case in enumerate(_document(site / "xclip_lr.json", report, "cases")):
        _check_xclip_rates(f"case {number}", case, report)
    for record in _document(site / "xclip_losses.json", report, "label_smoothing"):
        _check_smoothing(record, report)
    for record in _document(site / "xclip_cutmix_bbox.json", report):
        rngs = seeded_rngs(record["torch_seed"])
        box = cutmix_box(record["img_h"], record["img_w"], weight=record["lam"], rngs=rngs)
        report.compare(
            "losses cutmix boxes", f"seed {record['torch_seed']}", _corners(box), record["bbox"], tolerance=0
        )
    arrays = np.load(site / "xclip_blending.npz") if report.takes(site / "xclip_blending.npz") else None
    for record in _document(site / "xclip_losses.json", report, "blending"):
        if arrays is not None:
            _check_blending(record, arrays, report)


def _check_kl(record: Mapping[str, Any], report: ReferenceReport) -> None:
    name, labels = f"seed {record['seed']}", torch.tensor(record["labels"])
    video, text = (functional.normalize(torch.tensor(record[key]), dim=-1) for key in ("x_image", "x_text"))
    logits = record["logit_scale_exp"] * video @ text.T
    report.compare("losses actionclip logits", name, logits, record["logits_per_image"], tolerance=2e-4)
    report.compare("losses actionclip logits", name, logits.T, record["logits_per_text"], tolerance=2e-4)
    same = labels[:, None] == labels[None, :]
    report.compare("losses actionclip targets", name, same, record["ground_truth"], tolerance=0)
    targets = label_targets(labels)
    report.compare("losses actionclip targets, softened", name, targets, record["target_softmax"], tolerance=1e-6)
    found = [kl_to_labels(logits, targets), kl_to_labels(logits.T, targets), actionclip_kl(logits, labels)]
    expected = [record[key] for key in ("loss_imgs", "loss_texts", "total_loss")]
    report.compare("losses actionclip kl", name, found, expected, tolerance=LOSSES)


def _check_actionclip_rates(name: str, record: Mapping[str, Any], report: ReferenceReport) -> None:
    solver, groups = record["solver"], record["groups"]
    named = [(_short(item), Parameter(torch.zeros(2))) for group in groups for item in group["params"]]
    optimiser = actionclip_optimiser(
        named,
        kind=solver["optim"],
        lr=solver["lr"],
        weight_decay=solver["weight_decay"],
        vision_ratio=solver["ratio"],
        fusion_ratio=solver["f_ratio"],
        momentum=solver["momentum"],
    )
    found = [sorted(group["names"]) for group in optimiser.param_groups]
    expected = [sorted(map(_short, group["params"])) for group in groups]
    report.compare("losses actionclip groups", name, found != expected, 0, tolerance=0)
    for ours, theirs in zip(optimiser.param_groups, groups, strict=False):
        for key in ("weight_decay", "betas", "eps", "momentum"):
            if theirs[key] is not None:
                report.compare("losses actionclip groups", f"{name} {key}", ours[key], theirs[key], tolerance=0)
    for row in record["table"]:
        rates = [_actionclip_rate(row["epoch"] or 0.0, group["lr"], solver) for group in optimiser.param_groups]
        report.compare(
            "losses actionclip rates", f"{name} epoch {row['epoch']}", _gap(rates, row["lrs"]), 0, tolerance=RATES
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
            "losses xclip rates", f"{name} update {row['update']}", _gap(rates, row["lrs"]), 0, tolerance=RATES
        )


def _check_smoothing(record: Mapping[str, Any], report: ReferenceReport) -> None:
    name, logits, labels = f"seed {record['seed']}", torch.tensor(record["logits"]), torch.tensor(record["labels"])
    targets = smoothed_targets(labels, logits.shape[1], smoothing=record["smoothing"])
    if record["soft_onehot"] is not None:
        report.compare("losses smoothed targets", name, targets, record["soft_onehot"], tolerance=1e-7)
    found = [
        smoothed_cross_entropy(logits, labels, smoothing=record["smoothing"]),
        soft_cross_entropy(logits, targets),
        smoothed_cross_entropy(logits, labels, smoothing=0.0),
    ]
    expected = [record[f"loss_{key}_ce"] for key in ("label_smoothing", "soft_target", "plain")]
    report.compare("losses cross entropy", name, found, expected, tolerance=LOSSES)


def _check_blending(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], report: ReferenceReport) -> None:
    """Compare clips mixed with the recorded weight, partners and box; beta samples differ between torch versions."""
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
        kept = 1 - box.width * box.height / (clips.shape[-1] * clips.shape[-2])
        report.compare("losses cutmix weights", name, kept, record["effective_lambda"], tolerance=1e-12)
    is_cutmix = seeded_rngs(record["seed_all"]).numpy.rand() < 0.5
    report.compare("losses mixing choice", name, is_cutmix, record["mode"] == "cutmix", tolerance=0)
    report.compare("losses mixed clips", name, mixed, arrays[f"{name}_out"], tolerance=1e-6)
    report.compare("losses mixed targets", name, targets, arrays[f"{name}_target"], tolerance=1e-6)
    loss = soft_cross_entropy(torch.from_numpy(arrays[f"{name}_logits"]), targets)
    report.compare("losses of mixed clips", name, loss, record["loss"], tolerance=LOSSES)


def _gap(found: list[float], expected: list[float]) -> float:
    """Return the largest difference relative to the expected rate."""
    return (
        max(abs(one - other) / other if other else abs(one) for one, other in zip(found, expected, strict=True))
        if len(found) == len(expected)
        else math.inf
    )


def _corners(box: CropBox) -> list[int]:
    return [box.left, box.top, box.left + box.width, box.top + box.height]


def _short(name: str) -> str:
    return name.removeprefix("model.")


def _document(path: Path, report: ReferenceReport, part: str | None = None) -> list[Any]:
    if not report.takes(path):
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    found: list[Any] = document if part is None else document.get(part, [])
    return found
