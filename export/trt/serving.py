"""Configurations of Triton for TensorRT, in its onnxruntime backend or from a plan file.

The onnxruntime backend needs only the ONNX file: the server builds engines when it loads a version and caches them in a
folder. A plan file, `model.plan`, is specific to a GPU model and a TensorRT version.
"""

from dataclasses import replace

from export.triton_config import (
    TensorRtAccelerator,
    TritonTensor,
    WarmUp,
    accelerated_text,
    graph_config,
    plan_text,
)
from export.trt.profiles import Profile, format_shape, make_graph_profiles
from serve.contract import GraphContract, ModelContract

PLAN_FILE = "model.plan"
CONFIG_FILE = "configs/tensorrt.pbtxt"  # selected by `tritonserver --model-config-name=tensorrt`
ENGINE_CACHE = "/var/cache/actserve/tensorrt"  # in the server's container; mount a volume to make it persistent
WORKSPACE_BYTES = 4 << 30


def accelerator_config(
    name: str, graph: GraphContract, *, contract: ModelContract, max_batch_size: int, engine_cache: str = ENGINE_CACHE
) -> str:
    """Return `config.pbtxt` with TensorRT in fp16 in the onnxruntime backend, with engines cached in `engine_cache`."""
    profiles = make_graph_profiles(graph, max_batch_size=max_batch_size, text=contract.text)
    parameters = {
        "precision_mode": "FP16",
        "trt_layer_norm_fp32_fallback": "1",  # sums of squares exceed the range of fp16
        "max_workspace_size_bytes": str(WORKSPACE_BYTES),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": engine_cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": engine_cache,
        "trt_profile_min_shapes": ",".join(f"{item.input}:{format_shape(item.smallest)}" for item in profiles),
        "trt_profile_opt_shapes": ",".join(f"{item.input}:{format_shape(item.usual)}" for item in profiles),
        "trt_profile_max_shapes": ",".join(f"{item.input}:{format_shape(item.largest)}" for item in profiles),
    }
    config = graph_config(name, graph, max_batch_size=max_batch_size)
    runs = make_warm_ups(profiles, config.inputs)
    return accelerated_text(config, TensorRtAccelerator(parameters=parameters), runs)


def plan_config(name: str, graph: GraphContract, *, profiles: tuple[Profile, ...], max_batch_size: int) -> str:
    """Return `configs/tensorrt.pbtxt` for plan files that were built with `profiles`."""
    config = replace(graph_config(name, graph, max_batch_size=max_batch_size), backend="tensorrt")
    return plan_text(config, make_warm_ups(profiles, config.inputs), file=PLAN_FILE)


def make_warm_ups(profiles: tuple[Profile, ...], inputs: tuple[TritonTensor, ...]) -> tuple[WarmUp, ...]:
    """Return warm-up runs with the smallest and the usual shape; zeros are valid as pixels and as padding tokens."""
    shapes = {"smallest": [item.smallest for item in profiles], "usual": [item.usual for item in profiles]}
    return tuple(
        WarmUp(
            name=f"{label}-shape",
            batch_size=run_shapes[0][0],
            inputs=tuple(replace(item, dims=shape[1:]) for item, shape in zip(inputs, run_shapes, strict=True)),
        )
        for label, run_shapes in shapes.items()
    )
