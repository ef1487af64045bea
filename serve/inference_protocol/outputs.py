"""The outputs of an inference request: which of them the response has, and in which form."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from starlette.responses import Response

from serve.api.responses import LabelScores
from serve.embeddings import EncodedFeatures
from serve.errors import InvalidOption
from serve.inference_protocol import tensors
from serve.inference_protocol.bodies import JSON_LENGTH_HEADER
from serve.inference_protocol.messages import InferRequest, Parameter, RequestOutput
from serve.inference_protocol.models import (
    ACCEPTED,
    COSINE,
    EMBEDDING,
    LABEL,
    LOGIT,
    PROBABILITY,
    VIDEO,
    ProtocolModel,
)
from serve.inference_protocol.tensors import Values

BINARY_OUTPUT = "binary_data_output"  # parameter of the request
BINARY = "binary_data"  # parameter of an output


@dataclass(frozen=True, kw_only=True)
class ComputedOutputs:
    """Computed outputs by name, and parameters of the response."""

    values: Mapping[str, Values]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


def label_outputs(scores: LabelScores) -> ComputedOutputs:
    """Return the outputs of a classification; there are no probabilities if `function_to_apply` is `none`."""
    results = scores.results
    values: dict[str, Values] = {
        LABEL: [item.label.encode() for item in results],
        LOGIT: np.array([item.logit for item in results], np.float32),
        COSINE: np.array([item.cosine for item in results], np.float32),
        ACCEPTED: np.array([item.accepted for item in results], np.bool_),
    }
    probabilities = [item.score for item in results if item.score is not None]
    if len(probabilities) == len(results):
        values[PROBABILITY] = np.array(probabilities, np.float32)
    optional: dict[str, Parameter | None] = {
        "vocabulary": scores.vocabulary,
        "none_of_these_score": scores.none_of_these.score,
        "rejected": scores.none_of_these.rejected,
        "notice": scores.notice,
    }
    return ComputedOutputs(
        values=values, parameters={name: value for name, value in optional.items() if value is not None}
    )


def feature_outputs(model: ProtocolModel, features: EncodedFeatures) -> ComputedOutputs:
    """Return the outputs of an encoding: the features of the graph, and the embedding that /v1/embeddings returns."""
    embedding = features.mean_embedding(True) if model.kind == VIDEO else features.embeddings(True)
    return ComputedOutputs(values={model.features_name: features.features, EMBEDDING: embedding})


class OutputSelection:
    """The outputs that a request asks for."""

    def __init__(self, model: ProtocolModel, request: InferRequest) -> None:
        """Check the outputs of a request.

        Raises:
            InvalidOption: an output or a parameter of one is unknown.
        """
        self._model, self._request = model, request
        self._is_binary = _boolean(request.parameters, BINARY_OUTPUT, default=False)
        self._datatypes = {spec.name: spec.datatype for spec in model.outputs}
        names = [item.name for item in request.outputs or ()]
        for name in names:
            if name not in self._datatypes:
                raise InvalidOption(
                    f"model `{model.name}` has no output `{name[:80]}`; it has: {', '.join(self._datatypes)}"
                )
            if names.count(name) > 1:
                raise InvalidOption(f"output `{name}` is requested {names.count(name)} times; request it once")
        for item in request.outputs or ():
            self._is_binary_output(item)

    def _is_binary_output(self, item: RequestOutput) -> bool:
        unknown = [name for name in item.parameters if name != BINARY]
        if unknown:
            raise InvalidOption(f"unknown parameter `{unknown[0][:80]}` of output `{item.name}`; allowed: {BINARY}")
        return _boolean(item.parameters, BINARY, default=self._is_binary)

    def render(self, computed: ComputedOutputs) -> Response:
        """Return the response with the selected outputs.

        Raises:
            InvalidOption: a requested output does not exist with the options of the request.
        """
        wanted = self._request.outputs or [
            RequestOutput(name=name) for name in self._datatypes if name in computed.values
        ]
        outputs, binary = [], []
        for item in wanted:
            values = computed.values.get(item.name)
            if values is None:
                raise InvalidOption(f"there is no output `{item.name}` with `function_to_apply` `none`")
            output: dict[str, Any] = {
                "name": item.name,
                "datatype": self._datatypes[item.name],
                "shape": tensors.shape_of(values),
            }
            if self._is_binary_output(item):
                binary.append(tensors.to_binary(values))
                output["parameters"] = {"binary_data_size": len(binary[-1])}
            else:
                output["data"] = tensors.to_json(values)
            outputs.append(output)
        document: dict[str, Any] = {"model_name": self._model.name, "model_version": self._model.version}
        if self._request.id is not None:
            document["id"] = self._request.id
        if computed.parameters:
            document["parameters"] = dict(computed.parameters)
        header = json.dumps({**document, "outputs": outputs}, ensure_ascii=False, allow_nan=False).encode()
        if not binary:
            return Response(header, media_type="application/json")
        headers = {JSON_LENGTH_HEADER: str(len(header))}
        return Response(b"".join([header, *binary]), media_type="application/octet-stream", headers=headers)


def _boolean(parameters: Mapping[str, Parameter], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidOption(f"the parameter `{name}` must be true or false, got {value!r}")
    return value
