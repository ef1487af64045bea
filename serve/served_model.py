"""A model version of the repository, run synchronously with onnxruntime on the CPU.

Used outside the server by the promotion gate, few-shot training and the evaluation of the starter model. The server
uses the engines of `serve.engines`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serve import scoring
from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.contract import ModelContract
from serve.features import FeatureLayout, VideoFeatures
from serve.repository import ModelReference, find_contract, verify_files
from serve.text.encoding import encode_bank
from serve.text.tokenizer import load_tokenizer

HEAD_CLASSES = 1024  # classes per run of the prompt head; limits its memory
GRAPHS = ("video", "text", "head")


class ServedModel:
    """Contract, tokenizer and graphs of a model version; all methods are blocking."""

    def __init__(self, repository: Path, contract: ModelContract) -> None:
        """Load the graphs.

        Raises:
            ContractError: a file does not match the contract.
        """
        verify_files(contract, repository)
        graph = contract.graphs["video"]
        self.contract = contract
        self.identity = "\n".join(
            (graph.sha256, *graph.external_sha256, "onnxruntime")
        )  # differs for different weights
        self.family: str = contract.family
        self.sampling, self.preprocess = contract.sampling, contract.preprocess
        self.text, self.scoring = contract.text, contract.scoring
        self.tokenizer = load_tokenizer(repository / contract.tokenizer_file.file, contract.text)
        self.layout = FeatureLayout.of_contract(contract)
        self._sessions = {
            name: _create_session(repository / contract.graphs[name].file) for name in GRAPHS if name in contract.graphs
        }

    @classmethod
    def open(cls, repository: Path, reference: str | ModelReference) -> "ServedModel":
        """Load `NAME` (its newest version) or `NAME@VERSION`.

        Raises:
            UnknownModel: there is no such model.
            ContractError: see `find_contract`; or a file does not match the contract.
        """
        return cls(repository, find_contract(repository, reference))

    def encode_video(self, views: UInt8Array) -> VideoFeatures:
        """Encode views [V, T, 3, S, S]."""
        outputs = self._run("video", {"frames": views})
        return VideoFeatures(
            video_features=outputs["video_features"],
            patch_features=outputs.get("patch_features"),
            prototype_features=outputs.get("prototype_features"),
        )

    def encode_text(self, tokens: Int64Array) -> Float32Array:
        """Encode tokens [R, L] into features [R, D]."""
        return self._run("text", {"tokens": tokens})["text_features"]

    def prompted_logits(self, video: Float32Array, patches: Float32Array, texts: Float32Array) -> Float32Array:
        """Run the prompt head on video [V, D], patch [V, P, D] and text features [K, D]; return logits [V, K]."""
        parts = [
            self._run("head", {"video_features": video, "patch_features": patches, "text_features": part})["logits"]
            for part in np.split(texts, range(HEAD_CLASSES, len(texts), HEAD_CLASSES))
        ]
        return np.concatenate(parts, axis=1)

    def encode_bank(self, labels: Sequence[str]) -> Float32Array:
        """Return the bank [M, K, D] of labels; see `encode_bank`.

        Raises:
            InvalidVocabulary: the labels cannot be scored.
        """
        return encode_bank(
            self.encode_text,
            self.tokenizer,
            labels,
            text=self.text,
            scoring=self.scoring,
            has_prompt_head=self.contract.has_prompt_head,
        )

    def logits(self, features: VideoFeatures, bank: Float32Array) -> Float32Array:
        """Compute logits [V, M, K] with the prompt head if the model has one, else by cosine similarity."""
        if not self.contract.has_prompt_head:
            return scoring.compute_logits(features.video_features, bank, self.scoring)
        assert features.patch_features is not None, "validate_options by ModelContract"
        per_template = [self.prompted_logits(features.video_features, features.patch_features, texts) for texts in bank]
        return np.stack(per_template, axis=1)

    def _run(self, name: str, inputs: Mapping[str, Any]) -> dict[str, Float32Array]:
        outputs = [item.name for item in self.contract.graphs[name].outputs]
        return dict(zip(outputs, self._sessions[name].run(outputs, dict(inputs)), strict=True))


def _create_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
