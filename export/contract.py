"""Create the contract, which contains every choice that changes a result, from a checkpoint and its graphs."""

from collections.abc import Mapping
from typing import Literal

from export.graphs import Component, GraphPlan
from export.onnx_files import OPSET, describe_graph
from export.parity_gate import RuntimeParity, parity_document
from export.publication import StagingDir
from export.versions import installed_versions
from serve.contract import FileContract, GraphContract, ModelContract
from serve.files import file_sha256
from training.checkpoints.native_format import Checkpoint

Weights = Literal["fp32", "fp16"]
TOKENIZER_FILE = "tokenizer.json"
PARITY_FILE = "parity.npz"


def make_contract(
    checkpoint: Checkpoint,
    plans: Mapping[str, GraphPlan],
    staging: StagingDir,
    *,
    parity: Mapping[str, RuntimeParity],
    weights: Weights,
) -> ModelContract:
    """Create the contract of a version whose graphs, tokenizer and parity file are in the staging folder."""
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
        graphs={name: _graph_contract(plan, staging) for name, plan in plans.items()},
        tokenizer_file=_file_contract(staging, "text", TOKENIZER_FILE),
        parity_file=_file_contract(staging, "video", PARITY_FILE),
        default_labels=checkpoint.labels,
        parity=parity_document(parity),
        provenance={**checkpoint.provenance, "export": {"weights": weights, "versions": installed_versions()}},
        card=checkpoint.card,
    )


def _graph_contract(plan: GraphPlan, staging: StagingDir) -> GraphContract:
    return describe_graph(
        staging.folder_of(plan.component) / plan.file,
        file=staging.published_path(plan.component, plan.file),
        opset=OPSET,
        inputs=plan.inputs,
        outputs=plan.outputs,
    )


def _file_contract(staging: StagingDir, component: Component, file: str) -> FileContract:
    return FileContract(
        file=staging.published_path(component, file), sha256=file_sha256(staging.folder_of(component) / file)
    )
