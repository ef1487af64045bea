"""Verify a published version: hashes, tensors, opset, and results on the parity clips."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.onnx_files import describe_graph
from export.parity_gate import RuntimeParity, measure_parity, require_parity
from serve.contract import ModelContract
from serve.repository import ModelReference, find_contract, verify_files


@dataclass(frozen=True, kw_only=True)
class VerificationResult:
    """A verified version with the parity results of this machine."""

    contract: ModelContract
    parity: Mapping[str, RuntimeParity]


def read_golden(repository: Path, contract: ModelContract) -> dict[str, NDArray[Any]]:
    """Read the arrays of `parity.npz`."""
    with np.load(repository / contract.parity_file.file, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def verify_version(repository: Path, name: str, *, version: int | None = None) -> VerificationResult:
    """Verify a version of a model, by default the newest.

    Raises:
        ContractError: the contract is not supported, or a file is missing or does not match its hash.
        UnknownModel: there is no such version.
        ExportError: a graph does not match its description in the contract.
        ParityError: the results on this machine differ from torch's stored results.
    """
    contract = find_contract(repository, ModelReference(name, version))
    verify_files(contract, repository)
    for key, graph in contract.graphs.items():
        actual = describe_graph(
            repository / graph.file,
            file=graph.file,
            opset=contract.opset,
            inputs=graph.inputs,
            outputs=graph.outputs,
        )
        if actual != graph:
            raise ExportError(
                f"the {key} graph of {name}@{contract.version} does not match the contract: {actual} instead of {graph}"
            )
    golden = read_golden(repository, contract)
    paths = {key: repository / graph.file for key, graph in contract.graphs.items()}
    parity = measure_parity(paths, golden, logit_scale=contract.scoring.logit_scale)
    require_parity(parity)
    return VerificationResult(contract=contract, parity=parity)
