"""Export a checkpoint to a published version with graphs, tokenizer, parity clips and contract."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.attention import separate_projections_
from export.contract import PARITY_FILE, TOKENIZER_FILE, Weights, make_contract
from export.errors import ExportInputError
from export.golden import golden_frames, golden_tokens
from export.graphs import Component, GraphPlan, make_graph_plans
from export.onnx_files import WeightFile, round_to_float16_, write_graph
from export.parity_gate import RuntimeParity, measure_parity, require_parity
from export.publication import Accelerator, StagingDir, check_accelerator, check_signature, publish, staging_dir
from serve.contract import ModelContract
from serve.files import check_free_space
from serve.repository import check_default_labels
from serve.text.tokenizer import Tokenizer, load_tokenizer
from training.checkpoints.native_format import Checkpoint
from training.models.base import VideoTextModel

COMPONENTS: tuple[Component, ...] = ("text", "video")  # in the order of publication

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """A published version, with the time and space that it took."""

    contract: ModelContract
    contract_file: Path
    parity: Mapping[str, RuntimeParity]
    seconds: Mapping[str, float]  # by step: the name of a graph, "parity" or "total"
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
    """Publish `checkpoint` as the next version of `name`; nothing is published if the parity check fails.

    With `weights="fp16"`, matrices are rounded to float16 and stored as float16; computation is in float32, and parity
    is measured with the rounded weights. `accelerator` is used only if there is no `config.pbtxt` yet. Weights beyond
    `max_file_bytes` are stored in another file.

    Raises:
        ExportError, CheckpointError, ModelConfigError, ContractError: the checkpoint cannot be exported.
        OSError: the disk is full.
    """
    started = time.perf_counter()
    check_accelerator(repository, name, accelerator)
    check_default_labels(checkpoint.labels)
    num_bytes = sum(item.numel() * item.element_size() for item in checkpoint.weights.values())
    check_free_space(repository, num_bytes // 2 if weights == "fp16" else num_bytes)
    model = checkpoint.build()
    if weights == "fp16":
        round_to_float16_(model)
    plans = make_graph_plans(
        model, sampling=checkpoint.sampling, preprocess=checkpoint.preprocess, text=checkpoint.text
    )
    check_signature(repository, name, {key: (plans[key].inputs, plans[key].outputs) for key in ("video", "text")})
    with staging_dir(repository, name) as staging:
        (staging.text / TOKENIZER_FILE).write_bytes(tokenizer_json)
        _check_vocabulary_size(model, load_tokenizer(staging.text / TOKENIZER_FILE, checkpoint.text))
        golden = _golden_arrays(checkpoint, plans, staging)
        separate_projections_(model)
        seconds = _write_graphs(plans, staging, store_float16=weights == "fp16", max_file_bytes=max_file_bytes)
        np.savez_compressed(staging.video / PARITY_FILE, **golden)
        parity_started = time.perf_counter()
        paths = {key: staging.folder_of(plan.component) / plan.file for key, plan in plans.items()}
        parity = measure_parity(paths, golden, logit_scale=checkpoint.scoring.logit_scale)
        require_parity(parity)
        seconds["parity"] = time.perf_counter() - parity_started
        contract = make_contract(checkpoint, plans, staging, parity=parity, weights=weights)
        num_bytes = sum(
            path.stat().st_size for component in COMPONENTS for path in staging.folder_of(component).iterdir()
        )
        contract_file = publish(staging, contract, accelerator=accelerator)
    seconds["total"] = time.perf_counter() - started
    return ExportResult(
        contract=contract, contract_file=contract_file, parity=parity, seconds=seconds, num_bytes=num_bytes
    )


def write_plan(plan: GraphPlan, folder: Path, *, weight_file: WeightFile, store_float16: bool) -> None:
    """Write one graph into a folder; its weights go to `weight_file`.

    Raises:
        ExportError: torch cannot export the graph.
    """
    write_graph(
        plan.module,
        folder / plan.file,
        example=plan.example,
        inputs=plan.inputs,
        outputs=plan.outputs,
        bounds=plan.bounds,
        weight_file=weight_file,
        store_float16=store_float16,
    )


def _check_vocabulary_size(model: VideoTextModel, tokenizer: Tokenizer) -> None:
    sizes = [module.num_embeddings for module in model.text.modules() if isinstance(module, torch.nn.Embedding)]
    if sizes and max(sizes) < tokenizer.num_tokens:
        raise ExportInputError(
            f"the tokenizer has {tokenizer.num_tokens} tokens, but the model only {max(sizes)}; "
            "give the model's tokenizer with --tokenizer"
        )


def _write_graphs(
    plans: Mapping[str, GraphPlan], staging: StagingDir, *, store_float16: bool, max_file_bytes: int | None
) -> dict[str, float]:
    seconds = {}
    for component in COMPONENTS:
        with WeightFile(staging.folder_of(component), max_bytes=max_file_bytes) as weight_file:
            for name, plan in plans.items():
                if plan.component != component:
                    continue
                started = time.perf_counter()
                write_plan(plan, staging.folder_of(component), weight_file=weight_file, store_float16=store_float16)
                seconds[name] = time.perf_counter() - started
                logger.info("exported the %s graph in %.1f s", name, seconds[name])
    return seconds


def _golden_arrays(checkpoint: Checkpoint, plans: Mapping[str, GraphPlan], staging: StagingDir) -> dict[str, Any]:
    """Return the content of `parity.npz`: inputs, and the float32 outputs of torch before attention is rewritten."""
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
