"""Export a checkpoint to a published version: graphs, tokenizer, parity clips, parity gate, contract, publication."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.attention import separate_projections_
from export.contract import PARITY_FILE, TOKENIZER_FILE, Weights, contract_of
from export.errors import ExportInputError
from export.golden import golden_frames, golden_tokens
from export.onnx_files import WeightFile, halve_parameters_, write_graph
from export.parity_gate import RuntimeParity, measure_parity, require_parity
from export.publication import Accelerator, StagingDir, check_accelerator, check_signature, publish, staging_dir
from export.towers import GraphPlan, Part, graph_plans
from serve.contract import ModelContract
from serve.files import require_space
from serve.repository import check_default_labels
from serve.text.tokenizer import Tokenizer, load_tokenizer
from training.checkpoints.native_format import Checkpoint
from training.models.base import VideoTextModel

PARTS: tuple[Part, ...] = ("text", "video")  # in the order of publication

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """A published version, with the time and space it took."""

    contract: ModelContract
    contract_file: Path
    parity: Mapping[str, RuntimeParity]
    seconds: Mapping[str, float]  # by graph, "parity" and "total"
    num_bytes: int  # of both version folders


def export_checkpoint(
    checkpoint: Checkpoint,
    tokenizer_json: bytes,
    *,
    name: str,
    repository: Path,
    weights: Weights = "fp32",
    accelerator: Accelerator = "none",
    max_file_bytes: int | None = None,
) -> ExportResult:
    """Publish `checkpoint` as the next version of `name`; nothing is published unless parity holds.

    With `weights="fp16"` matrices are rounded to float16 and stored in it; computation is in float32, and the parity
    figures are those of the rounded weights. `accelerator` applies to the `config.pbtxt` of a new name. Weights beyond
    `max_file_bytes` go into another file.

    Raises:
        ExportError, CheckpointError, ModelConfigError, ContractError: the checkpoint cannot be exported.
        OSError: the disk is full.
    """
    started = time.perf_counter()
    check_accelerator(repository, name, accelerator)
    check_default_labels(checkpoint.labels)
    num_bytes = sum(item.numel() * item.element_size() for item in checkpoint.weights.values())
    require_space(repository, num_bytes // 2 if weights == "fp16" else num_bytes)
    model = checkpoint.build()
    if weights == "fp16":
        halve_parameters_(model)
    plans = graph_plans(model, sampling=checkpoint.sampling, preprocess=checkpoint.preprocess, text=checkpoint.text)
    check_signature(repository, name, {key: (plans[key].inputs, plans[key].outputs) for key in ("video", "text")})
    with staging_dir(repository, name) as staging:
        (staging.text / TOKENIZER_FILE).write_bytes(tokenizer_json)
        _check_token_table(model, load_tokenizer(staging.text / TOKENIZER_FILE, checkpoint.text))
        golden = _golden(checkpoint, plans, staging)
        separate_projections_(model)
        seconds = _write_graphs(plans, staging, halve_weights=weights == "fp16", max_file_bytes=max_file_bytes)
        np.savez_compressed(staging.video / PARITY_FILE, **golden)
        begun = time.perf_counter()
        paths = {key: staging.folder_of(plan.part) / plan.file for key, plan in plans.items()}
        parity = measure_parity(paths, golden, logit_scale=checkpoint.scoring.logit_scale)
        require_parity(parity)
        seconds["parity"] = time.perf_counter() - begun
        contract = contract_of(checkpoint, plans, staging, parity=parity, weights=weights)
        num_bytes = sum(path.stat().st_size for part in PARTS for path in staging.folder_of(part).iterdir())
        contract_file = publish(staging, contract, accelerator=accelerator)
    seconds["total"] = time.perf_counter() - started
    return ExportResult(
        contract=contract, contract_file=contract_file, parity=parity, seconds=seconds, num_bytes=num_bytes
    )


def write_plan(plan: GraphPlan, folder: Path, *, weight_file: WeightFile, halve_weights: bool) -> None:
    """Write one graph into the folder of its part; its weights go to `weight_file`.

    Raises:
        ExportError: torch cannot export it.
    """
    write_graph(
        plan.module,
        folder / plan.file,
        example=plan.example,
        inputs=plan.inputs,
        outputs=plan.outputs,
        bounds=plan.bounds,
        weight_file=weight_file,
        halve_weights=halve_weights,
    )


def _check_token_table(model: VideoTextModel, tokenizer: Tokenizer) -> None:
    tables = [part.num_embeddings for part in model.text.modules() if isinstance(part, torch.nn.Embedding)]
    if tables and max(tables) < tokenizer.num_tokens:
        raise ExportInputError(
            f"the tokenizer makes {tokenizer.num_tokens} tokens, the model knows {max(tables)}: "
            "give its own with --tokenizer"
        )


def _write_graphs(
    plans: Mapping[str, GraphPlan], staging: StagingDir, *, halve_weights: bool, max_file_bytes: int | None
) -> dict[str, float]:
    seconds = {}
    for part in PARTS:
        with WeightFile(staging.folder_of(part), max_bytes=max_file_bytes) as weight_file:
            for name, plan in plans.items():
                if plan.part != part:
                    continue
                begun = time.perf_counter()
                write_plan(plan, staging.folder_of(part), weight_file=weight_file, halve_weights=halve_weights)
                seconds[name] = time.perf_counter() - begun
                logger.info("%s graph exported in %.1f s", name, seconds[name])
    return seconds


def _golden(checkpoint: Checkpoint, plans: Mapping[str, GraphPlan], staging: StagingDir) -> dict[str, Any]:
    """Return the content of `parity.npz`: inputs, and torch's float32 outputs of the unrounded model."""
    tokenizer = load_tokenizer(staging.text / TOKENIZER_FILE, checkpoint.text)
    frames = golden_frames(checkpoint.preprocess, num_segments=checkpoint.sampling.num_segments)
    tokens = golden_tokens(tokenizer, checkpoint.text, labels=checkpoint.labels)
    with torch.inference_mode():
        outputs = plans["video"].module(torch.from_numpy(frames))
        text = plans["text"].module(torch.from_numpy(tokens))
        tensors = dict(zip((item.name for item in plans["video"].outputs), outputs, strict=True))
        tensors["text_features"] = text
        if "head" in plans:
            tensors["logits"] = plans["head"].module(tensors["video_features"], tensors["patch_features"], text)
    return {"frames": frames, "tokens": tokens, **{name: item.float().numpy() for name, item in tensors.items()}}
