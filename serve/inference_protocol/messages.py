"""Messages of the Open Inference Protocol v2: requests, responses and metadata."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MAX_RANK, MAX_DIM = 8, 2**31 - 1
Parameter = bool | int | float | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RequestInput(_Strict):
    """One input tensor: `data`, or binary data after the JSON part with the parameter `binary_data_size`."""

    name: str = Field(max_length=200)
    datatype: str = Field(max_length=20, description="`BYTES` or `UINT8`, as the metadata of the model says.")
    shape: list[int] = Field(max_length=MAX_RANK)
    parameters: dict[str, Parameter] = Field(
        default={}, description="`binary_data_size`; `content_type` with the value `base64` for `BYTES` in JSON."
    )
    data: list[Any] | None = Field(None, description="Elements in row-major order, flat or nested like the shape.")


class RequestOutput(_Strict):
    """One output that the response should have."""

    name: str = Field(max_length=200)
    parameters: dict[str, Parameter] = Field(default={}, description="`binary_data`: send it as binary data.")


class InferRequest(_Strict):
    """Request of an inference."""

    id: str | None = Field(None, max_length=1000, description="An id of your own; the response repeats it.")
    parameters: dict[str, Parameter] = Field(
        default={}, description="Options of the model, and `binary_data_output`: send all outputs as binary data."
    )
    inputs: list[RequestInput] = Field(description="Exactly one input of the model.")
    outputs: list[RequestOutput] | None = Field(None, description="Outputs of the response; by default all.")


class ResponseOutput(BaseModel):
    """One output tensor."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = Field(None, description="`binary_data_size`, if the data is binary.")
    data: list[Any] | None = Field(None, description="Elements in row-major order; absent if the data is binary.")


class InferResponse(BaseModel):
    """Response to an inference."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[ResponseOutput]


class TensorMetadata(BaseModel):
    """Name, datatype and shape of an input or output; -1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """Metadata of a model."""

    name: str
    versions: list[str] = Field(description="The loaded versions.")
    platform: str
    inputs: list[TensorMetadata] = Field(description="The alternatives: a request has exactly one of them.")
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    """Metadata of the server."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """The process is running."""

    live: bool


class ServerReady(BaseModel):
    """The server serves requests."""

    ready: bool


class ModelReady(BaseModel):
    """The model serves requests."""

    name: str
    ready: bool
