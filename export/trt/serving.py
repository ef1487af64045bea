"""The two ways in which Triton runs a graph with TensorRT: inside its onnxruntime backend, or as a plan file.

The first needs only the ONNX file: the server builds engines when it loads a version and caches them in a folder. The
second serves `model.plan`, which is specific to a GPU model and a TensorRT version.
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
from export.trt.profiles import Profile, graph_profiles, shape_text
from serve.contract import GraphContract, ModelContract

PLAN_FILE = "model.plan"
VARIANT = "configs/tensorrt.pbtxt"  # chosen by `tritonserver --model-config-name=tensorrt`
ENGINE_CACHE = "/var/cache/actserve/tensorrt"  # in the server's container; mount a volume to keep it
WORKSPACE_BYTES = 4 << 30


def accelerator_config(
    name: str, graph: GraphContract, *, contract: ModelContract, max_batch_size: int, engine_cache: str = ENGINE_CACHE
) -> str:
    """`config.pbtxt` with TensorRT in fp16 inside the onnxruntime backend, engines kept in `engine_cache`."""
    profiles = graph_profiles(graph, max_batch_size=max_batch_size, text=contract.text)
    parameters = {
        "precision_mode": "FP16",
        "trt_layer_norm_fp32_fallback": "1",  # sums of squares exceed fp16's range
        "max_workspace_size_bytes": str(WORKSPACE_BYTES),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": engine_cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": engine_cache,
        "trt_profile_min_shapes": ",".join(f"{item.input}:{shape_text(item.smallest)}" for item in profiles),
        "trt_profile_opt_shapes": ",".join(f"{item.input}:{shape_text(item.usual)}" for item in profiles),
        "trt_profile_max_shapes": ",".join(f"{item.input}:{shape_text(item.largest)}" for item in profiles),
    }
    config = graph_config(name, graph, max_batch_size=max_batch_size)
    warm = warm_ups(profiles, config.inputs)
    return accelerated_text(config, TensorRtAccelerator(parameters=parameters), warm)


def plan_config(name: str, graph: GraphContract, *, profiles: tuple[Profile, ...], max_batch_size: int) -> str:
    """`configs/tensorrt.pbtxt` for plan files made with `profiles`."""
    config = replace(graph_config(name, graph, max_batch_size=max_batch_size), backend="tensorrt")
    return plan_text(config, warm_ups(profiles, config.inputs), file=PLAN_FILE)


def warm_ups(profiles: tuple[Profile, ...], inputs: tuple[TritonTensor, ...]) -> tuple[WarmUp, ...]:
    """Return one run of the smallest and one of the usual shape; zeros are valid pixels and padding tokens."""
    shapes = {"smallest": [item.smallest for item in profiles], "usual": [item.usual for item in profiles]}
    return tuple(
        WarmUp(
            name=f"{label}-shape",
            batch_size=chosen[0][0],
            inputs=tuple(replace(item, dims=shape[1:]) for item, shape in zip(inputs, chosen, strict=True)),
        )
        for label, chosen in shapes.items()
    )
