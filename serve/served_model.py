"""One version of a repository folder, computed synchronously by onnxruntime on the CPU.

For programs beside the server: the promotion gate, few-shot training, the proof of the starter model. The server itself
uses the engines of `serve.engines`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serve import scoring
from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.contract import ModelContract
from serve.features import RowLayout, VideoFeatures
from serve.repository import ModelReference, find_contract, verify_files
from serve.text.encoding import encode_bank
from serve.text.tokenizer import load_tokenizer

HEAD_CLASSES = 1024  # classes of one run of the prompt head; its memory grows with them
GRAPHS = ("video", "text", "head")


class ServedModel:
    """Contract, tokenizer and graphs of a version; the methods block."""

    def __init__(self, repository: Path, contract: ModelContract) -> None:
        """Load the graphs.

        Raises:
            ContractError: a file is not what the contract says.
        """
        verify_files(contract, repository)
        graph = contract.graphs["video"]
        self.contract = contract
        self.identity = "\n".join((graph.sha256, *graph.external_sha256, "onnxruntime"))  # changes with the weights
        self.family: str = contract.family
        self.sampling, self.preprocess = contract.sampling, contract.preprocess
        self.text, self.scoring = contract.text, contract.scoring
        self.tokenizer = load_tokenizer(repository / contract.tokenizer_file.file, contract.text)
        self.layout = RowLayout.of(contract)
        self._sessions = {
            name: _session(repository / contract.graphs[name].file) for name in GRAPHS if name in contract.graphs
        }

    @classmethod
    def open(cls, repository: Path, reference: str | ModelReference) -> "ServedModel":
        """Load `NAME` (its newest version) or `NAME@VERSION`.

        Raises:
            UnknownModel: there is no such model.
            ContractError: see `find_contract`; or a file is not what the contract says.
        """
        return cls(repository, find_contract(repository, reference))

    def video(self, views: UInt8Array) -> VideoFeatures:
        """Encode views [V, T, 3, S, S]."""
        found = self._run("video", {"frames": views})
        return VideoFeatures(
            video_features=found["video_features"],
            patch_features=found.get("patch_features"),
            prototype_features=found.get("prototype_features"),
        )

    def texts(self, tokens: Int64Array) -> Float32Array:
        """Encode tokens [R, L] to features [R, D]."""
        return self._run("text", {"tokens": tokens})["text_features"]

    def prompted_logits(self, video: Float32Array, patches: Float32Array, texts: Float32Array) -> Float32Array:
        """Compute the logits [V, K] of the prompt head for texts [K, D]."""
        parts = [
            self._run("head", {"video_features": video, "patch_features": patches, "text_features": part})["logits"]
            for part in np.split(texts, range(HEAD_CLASSES, len(texts), HEAD_CLASSES))
        ]
        return np.concatenate(parts, axis=1)

    def bank(self, labels: Sequence[str]) -> Float32Array:
        """Return the bank [M, K, D] of labels; see `encode_bank`.

        Raises:
            InvalidVocabulary: the labels cannot be scored.
        """
        return encode_bank(
            self.texts,
            self.tokenizer,
            labels,
            text=self.text,
            scoring=self.scoring,
            has_prompt_head=self.contract.has_prompt_head,
        )

    def logits(self, features: VideoFeatures, bank: Float32Array) -> Float32Array:
        """Compute logits [V, M, K] by the prompt head, or by cosine similarity."""
        if not self.contract.has_prompt_head:
            return scoring.logits_of(features.video_features, bank, self.scoring)
        assert features.patch_features is not None, "the contract of a prompt head has them"
        per_template = [self.prompted_logits(features.video_features, features.patch_features, rows) for rows in bank]
        return np.stack(per_template, axis=1)

    def _run(self, name: str, inputs: Mapping[str, Any]) -> dict[str, Float32Array]:
        outputs = [item.name for item in self.contract.graphs[name].outputs]
        return dict(zip(outputs, self._sessions[name].run(outputs, dict(inputs)), strict=True))


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
