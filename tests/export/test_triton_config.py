"""`config.pbtxt` is written from typed values and read back through Triton's own protobuf."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.triton_config import (
    MAX_TEXT_BATCH,
    MAX_VIDEO_BATCH,
    DynamicBatching,
    QueuePolicy,
    TritonConfig,
    TritonTensor,
    config_text,
    graph_config,
)
from serve.contract import GraphContract, TensorContract
from serve.repository import model_versions, read_version

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"
VIDEO = GraphContract(
    file="some_video/1/model.onnx",
    sha256="",
    inputs=(TensorContract(name="frames", dtype="uint8", axes=("B", 8, 3, 224, 224)),),
    outputs=(
        TensorContract(name="video_features", dtype="float32", axes=("B", 512)),
        TensorContract(name="patch_features", dtype="float32", axes=("B", 49, 512)),
    ),
)
TEXT = GraphContract(
    file="some_text/1/model.onnx",
    sha256="",
    inputs=(TensorContract(name="tokens", dtype="int64", axes=("R", "L")),),
    outputs=(TensorContract(name="text_features", dtype="float32", axes=("R", 512)),),
)


def parse(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())  # refuses fields and values Triton does not know


def test_video_configuration_reads_back_as_it_was_meant() -> None:
    read = parse(config_text(graph_config("some_video", VIDEO, max_batch_size=64)))
    assert (read.name, read.backend, read.max_batch_size) == ("some_video", "onnxruntime", 64)
    assert [(item.name, item.data_type, list(item.dims)) for item in read.input] == [
        ("frames", model_config_pb2.TYPE_UINT8, [8, 3, 224, 224])
    ]
    assert [(item.name, item.data_type, list(item.dims)) for item in read.output] == [
        ("video_features", model_config_pb2.TYPE_FP32, [512]),
        ("patch_features", model_config_pb2.TYPE_FP32, [49, 512]),
    ]
    policy = read.dynamic_batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert policy.allow_timeout_override  # the gateway's deadline is shorter
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (512, 60_000_000)
    assert read.version_policy.HasField("all")
    assert not read.instance_group  # Triton then picks GPU or CPU itself


def test_prompts_of_any_length_are_a_dynamic_dimension() -> None:
    read = parse(config_text(graph_config("some_text", TEXT, max_batch_size=256)))
    assert list(read.input[0].dims) == [-1]
    assert read.input[0].data_type == model_config_pb2.TYPE_INT64


def test_batching_values_are_written() -> None:
    config = TritonConfig(
        name="some_video",
        max_batch_size=16,
        inputs=(TritonTensor(name="frames", data_type="TYPE_UINT8", dims=(3,)),),
        outputs=(TritonTensor(name="video_features", data_type="TYPE_FP32", dims=(-1,)),),
        dynamic_batching=DynamicBatching(
            preferred_batch_size=(4, 8),
            max_queue_delay_microseconds=2000,
            queue_policy=QueuePolicy(max_queue_size=7, default_timeout_microseconds=500),
        ),
    )
    read = parse(config_text(config)).dynamic_batching
    assert list(read.preferred_batch_size) == [4, 8]
    assert read.max_queue_delay_microseconds == 2000
    assert read.default_queue_policy.max_queue_size == 7
    assert read.default_queue_policy.default_timeout_microseconds == 500


@pytest.mark.parametrize("name", ["demo", "starter"])
@pytest.mark.parametrize(("part", "max_batch_size"), [("text", MAX_TEXT_BATCH), ("video", MAX_VIDEO_BATCH)])
def test_the_bundled_configurations_are_what_export_writes(name: str, part: str, max_batch_size: int) -> None:
    graph = read_version(REPOSITORY, name, model_versions(REPOSITORY, name)[-1]).graphs[part]
    written = config_text(graph_config(f"{name}_{part}", graph, max_batch_size=max_batch_size))
    assert (REPOSITORY / f"{name}_{part}" / "config.pbtxt").read_text() == written


@pytest.mark.parametrize("wrong", [{"max_queue_size": 0}, {"default_timeout_microseconds": 0}], ids=str)
def test_a_queue_without_end_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        QueuePolicy(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"name": 'quote"d'}, id="a name that would break the text"),
        pytest.param({"max_batch_size": -1}, id="a negative batch"),
        pytest.param({"max_batch_size": 0}, id="batching without a batch axis"),
        pytest.param(
            {"inputs": (TritonTensor(name="frames", data_type="TYPE_FLOAT32", dims=(3,)),)}, id="a type Triton lacks"
        ),
        pytest.param({"inputs": (TritonTensor(name="frames", data_type="TYPE_FP32", dims=(0,)),)}, id="an empty axis"),
    ],
)
def test_values_that_make_no_configuration_are_refused(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {
        "name": "some_video",
        "max_batch_size": 8,
        "inputs": (),
        "outputs": (),
        "dynamic_batching": DynamicBatching(),
    }
    with pytest.raises(ValueError, match=r"must|batch"):
        TritonConfig(**(good | wrong))  # type: ignore[arg-type]
