"""Derive `contract.json` from a checkpoint and its exported graphs: every choice that changes a number."""

from collections.abc import Mapping
from typing import Literal

from export.onnx_files import OPSET, describe_graph
from export.parity_gate import RuntimeParity, parity_document
from export.publication import StagingDir
from export.towers import GraphPlan, Part
from export.versions import toolchain
from serve.contract import FileContract, GraphContract, ModelContract
from serve.files import file_sha256
from training.checkpoints.native_format import Checkpoint

Weights = Literal["fp32", "fp16"]
TOKENIZER_FILE = "tokenizer.json"
PARITY_FILE = "parity.npz"


def contract_of(
    checkpoint: Checkpoint,
    plans: Mapping[str, GraphPlan],
    staging: StagingDir,
    *,
    parity: Mapping[str, RuntimeParity],
    weights: Weights,
) -> ModelContract:
    """Return the contract of a version whose graphs, tokenizer and parity file are in the staging folder."""
    return ModelContract(
        family=checkpoint.family,
        name=staging.name,
        version=staging.version,
        embed_dim=int(plans["video"].outputs[0].axes[1]),
        sampling=checkpoint.sampling,
        preprocess=checkpoint.preprocess,
        text=checkpoint.text,
        scoring=checkpoint.scoring,
        opset=OPSET,
        graphs={name: _graph(plan, staging) for name, plan in plans.items()},
        tokenizer_file=_file(staging, "text", TOKENIZER_FILE),
        parity_file=_file(staging, "video", PARITY_FILE),
        default_labels=checkpoint.labels,
        parity=parity_document(parity),
        provenance={**checkpoint.provenance, "export": {"weights": weights, "versions": toolchain()}},
        card=checkpoint.card,
    )


def _graph(plan: GraphPlan, staging: StagingDir) -> GraphContract:
    return describe_graph(
        staging.folder_of(plan.part) / plan.file,
        file=staging.published_path(plan.part, plan.file),
        opset=OPSET,
        inputs=plan.inputs,
        outputs=plan.outputs,
    )


def _file(staging: StagingDir, part: Part, file: str) -> FileContract:
    return FileContract(file=staging.published_path(part, file), sha256=file_sha256(staging.folder_of(part) / file))
