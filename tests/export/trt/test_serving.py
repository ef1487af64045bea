"""Both TensorRT configurations are read back through Triton's own protobuf and say what was meant."""

import dataclasses

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.publication import check_accelerator, publish
from export.triton_config import (
    MAX_TEXT_BATCH,
    MAX_VIDEO_BATCH,
    TENSORRT_PARAMETERS,
    TensorRtAccelerator,
    TritonConfig,
    TritonTensor,
    WarmUp,
    plan_text,
)
from export.trt.profiles import Profile, make_graph_profiles
from export.trt.serving import ENGINE_CACHE, accelerator_config, plan_config
from tests.export.conftest import NAME, Exported, make_contract
from tests.export.test_publication import site_with_copy


def parse(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_accelerator_is_read_back(exported: Exported) -> None:
    contract = make_contract(exported("clip"))
    text = accelerator_config("tiny_text", contract.graphs["text"], contract=contract, max_batch_size=256)
    read = parse(text)
    assert (read.backend, read.max_batch_size) == ("onnxruntime", 256)
    (accelerator,) = read.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert not read.optimization.execution_accelerators.cpu_execution_accelerator
    parameters = dict(accelerator.parameters)
    assert parameters["precision_mode"] == "FP16"
    assert parameters["trt_engine_cache_enable"] == "1"
    assert parameters["trt_engine_cache_path"] == ENGINE_CACHE
    assert parameters["trt_layer_norm_fp32_fallback"] == "1"
    shapes = [parameters[f"trt_profile_{size}_shapes"] for size in ("min", "opt", "max")]
    assert shapes == ["tokens:1x1", "tokens:64x16", "tokens:256x77"]
    assert set(parameters) <= set(TENSORRT_PARAMETERS)
    assert not read.instance_group


def test_warm_up_has_no_dynamic_axis_and_zeros(exported: Exported) -> None:
    contract = make_contract(exported("clip"))
    for part, limit in (("text", MAX_TEXT_BATCH), ("video", MAX_VIDEO_BATCH)):
        graph = contract.graphs[part]
        warm = parse(accelerator_config(f"tiny_{part}", graph, contract=contract, max_batch_size=limit)).model_warmup
        assert [item.batch_size for item in warm] == [1, 64 if part == "text" else 8]
        for item in warm:
            value = item.inputs[graph.inputs[0].name]
            assert value.zero_data
            assert all(size >= 1 for size in value.dims)
            assert len(value.dims) == len(graph.inputs[0].axes) - 1


def test_the_plan_variant_is_read_back(exported: Exported) -> None:
    contract = make_contract(exported("xclip"))
    graph = contract.graphs["video"]
    profiles = make_graph_profiles(graph, max_batch_size=32, text=contract.text)
    read = parse(plan_config("tiny_video", graph, profiles=profiles, max_batch_size=32))
    assert (read.name, read.backend, read.platform) == ("tiny_video", "tensorrt", "tensorrt_plan")
    assert (read.default_model_filename, read.max_batch_size) == ("model.plan", 32)
    (group,) = read.instance_group
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert list(group.profile) == ["0"]
    assert read.version_policy.HasField("all")
    assert [item.name for item in read.output] == ["video_features", "patch_features"]
    assert [(item.smallest[0], item.usual[0], item.largest[0]) for item in profiles] == [(1, 8, 32)]


def test_by_default_a_folder_works_everywhere(copied: Exported) -> None:
    repository = copied("clip")
    for part in ("text", "video"):
        read = parse((repository / f"{NAME}_{part}" / "config.pbtxt").read_text())
        assert not read.HasField("optimization")
        assert not read.model_warmup
        assert not read.instance_group
    check_accelerator(repository, NAME, "none")
    with pytest.raises(Exception, match=r"config\.pbtxt exists and does not have the tensorrt accelerator"):
        check_accelerator(repository, NAME, "tensorrt")


def test_publication_writes_the_accelerator_for_a_new_name(copied: Exported) -> None:
    repository = copied("clip")
    for part in ("text", "video"):
        (repository / f"{NAME}_{part}" / "config.pbtxt").unlink()
    with site_with_copy(repository) as (site, contract):
        publish(site, contract, accelerator="tensorrt")
    for part in ("text", "video"):
        read = parse((repository / f"{NAME}_{part}" / "config.pbtxt").read_text())
        assert read.optimization.execution_accelerators.gpu_execution_accelerator[0].name == "tensorrt"
    check_accelerator(repository, NAME, "tensorrt")


@pytest.mark.parametrize(
    "parameters",
    [{"trt_fp16_enable": "1"}, {"precision_mode": "FP8"}, {"trt_profile_min_shapes": "frames 1x2"},
     {"trt_engine_cache_path": 'a"b'}],
    ids=["a name of another API", "a precision it lacks", "no shape", "a quote"],
)  # fmt: skip
def test_parameters_outside_the_list_are_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must"):
        TensorRtAccelerator(parameters=parameters)


def test_values_that_make_no_configuration_are_refused() -> None:
    tensor = TritonTensor(name="tokens", data_type="TYPE_INT64", dims=(-1,))
    with pytest.raises(ValueError, match="must"):
        WarmUp(name="w", batch_size=1, inputs=(tensor,))
    with pytest.raises(ValueError, match="must"):
        WarmUp(name="w", batch_size=0, inputs=())
    with pytest.raises(ValueError, match="smallest <= usual <= largest"):
        Profile(input="frames", smallest=(2, 3), usual=(1, 3), largest=(4, 3))
    config = TritonConfig(name="x", max_batch_size=1, inputs=(), outputs=(), dynamic_batching=None)
    with pytest.raises(ValueError, match="backend tensorrt"):
        plan_text(config, (), file="model.plan")
    assert "tensorrt_plan" in plan_text(dataclasses.replace(config, backend="tensorrt"), (), file="model.plan")
