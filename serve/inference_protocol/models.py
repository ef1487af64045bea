"""The models that clients of the Open Inference Protocol see: three for each model of the server.

`NAME` classifies, `NAME_video` and `NAME_text` compute features. The last two have the names and output tensors of the
graphs in a model repository.
"""

from dataclasses import dataclass
from typing import Literal

from serve.contract import ModelContract
from serve.errors import InvalidOption, UnknownModel
from serve.inference_protocol.messages import ModelMetadata
from serve.inference_protocol.tensors import TensorSpec
from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime

Kind = Literal["classification", "video", "text"]
ENDINGS: dict[str, Kind] = {"": "classification", "_video": "video", "_text": "text"}
PLATFORM = "actserve"
LABEL, PROBABILITY, LOGIT, COSINE, ACCEPTED = "label", "probability", "logit", "cosine", "accepted"
EMBEDDING = "embedding"
VIDEO, FRAMES, TEXT = "video", "frames", "text"


@dataclass(frozen=True, kw_only=True)
class ProtocolModel:
    """A model as a request names it."""

    name: str  # as in the path
    kind: Kind
    runtime: ModelRuntime

    @property
    def version(self) -> str:
        """The version that serves the request."""
        return str(self.runtime.contract.version)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The alternative inputs."""
        if self.kind == "text":
            return (TensorSpec(TEXT, "BYTES", (-1,)),)
        return TensorSpec(VIDEO, "BYTES", (1,)), TensorSpec(FRAMES, "UINT8", _views_shape(self.runtime.contract))

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs."""
        if self.kind == "classification":
            numbers = (TensorSpec(name, "FP32", (-1,)) for name in (PROBABILITY, LOGIT, COSINE))
            return TensorSpec(LABEL, "BYTES", (-1,)), *numbers, TensorSpec(ACCEPTED, "BOOL", (-1,))
        width = self.runtime.contract.embed_dim
        return (
            TensorSpec(self.features_name, "FP32", (-1, width)),
            TensorSpec(EMBEDDING, "FP32", (1 if self.kind == "video" else -1, width)),
        )

    @property
    def features_name(self) -> str:
        """Name of the output with the features of the graph."""
        return f"{self.kind}_features"

    def input(self, name: str) -> TensorSpec:
        """Return an input by name.

        Raises:
            InvalidOption: there is no such input.
        """
        found = next((spec for spec in self.inputs if spec.name == name), None)
        if found is None:
            known = ", ".join(spec.name for spec in self.inputs)
            raise InvalidOption(f"model `{self.name}` has no input `{name[:80]}`; it has: {known}")
        return found

    def metadata(self, registry: ModelRegistry) -> ModelMetadata:
        """Return the metadata of the model."""
        name = self.runtime.contract.name
        versions = (runtime.contract.version for runtime in registry.loaded() if runtime.contract.name == name)
        return ModelMetadata(
            name=self.name,
            versions=[str(version) for version in sorted(versions)],
            platform=PLATFORM,
            inputs=[spec.metadata for spec in self.inputs],
            outputs=[spec.metadata for spec in self.outputs],
        )


def find_model(registry: ModelRegistry, name: str, version: str | None) -> ProtocolModel:
    """Return the model of a name in the path; a model that has exactly this name takes precedence over an ending.

    Raises:
        UnknownModel: there is none, or the version is not loaded.
        EngineUnavailable: no model is loaded yet.
    """
    suffix = "" if version is None else f"@{version}"
    for ending, kind in ENDINGS.items():
        base = name.removesuffix(ending)
        if name.endswith(ending) and base and "@" not in name:
            try:
                return ProtocolModel(name=name, kind=kind, runtime=registry.get(base + suffix))
            except UnknownModel:
                continue
    loaded = sorted(runtime.reference for runtime in registry.loaded())
    wanted = f"{name[:80]!r}" if version is None else f"version {version[:20]!r} of {name[:80]!r}"
    raise UnknownModel(
        f"no model {wanted} is loaded; loaded: {', '.join(loaded)}, each also with the endings _video and _text",
        known=loaded,
    )


def _views_shape(contract: ModelContract) -> tuple[int, ...]:
    size = contract.preprocess.image_size
    return -1, contract.sampling.num_segments, 3, size, size
