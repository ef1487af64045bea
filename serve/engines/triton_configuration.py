"""Read and compare the configurations of Triton models; determine their precision and instances."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve.errors import ContractError


def read_configuration(folder: Path, name: str) -> dict[str, Any]:
    """Read the configuration of a model: `configs/NAME.pbtxt` if it exists, otherwise `config.pbtxt`.

    Raises:
        ContractError: the file cannot be read or parsed.
    """
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    variant = folder / "configs" / f"{name}.pbtxt"
    path = variant if name and variant.exists() else folder / "config.pbtxt"
    try:
        message = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise ContractError(f"{folder.name}/{path.name}: {error}", field=path.name) from error
    configuration: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return configuration


def includes_configuration(running: Any, stored: Any) -> bool:
    """Return whether the `running` configuration equals the `stored` one, apart from defaults added by the server.

    `version_policy` is ignored, because every load request sets it.
    """
    if isinstance(stored, Mapping):
        return isinstance(running, Mapping) and all(
            name in running and includes_configuration(running[name], value)
            for name, value in stored.items()
            if name != "version_policy"
        )
    if isinstance(stored, list):
        return (
            isinstance(running, list)
            and len(running) == len(stored)
            and all(includes_configuration(*pair) for pair in zip(running, stored, strict=True))
        )
    return bool(running == stored)


def describe_instances(configuration: Mapping[str, Any]) -> str:
    """Describe the instances of a model, e.g. "2 on cpu, 1 on gpu 0"."""
    groups = []
    for group in configuration.get("instance_group", []):
        kind = str(group.get("kind", "KIND_AUTO")).removeprefix("KIND_").lower()
        groups.append(" ".join([str(group.get("count", 1)), "on", kind, *map(str, group.get("gpus", []))]))
    return ", ".join(groups)


def is_half_precision(configuration: Mapping[str, Any]) -> bool:
    """Return whether a configuration allows TensorRT to compute in fp16; True for plan files, where it is unknown."""
    if configuration.get("platform") == "tensorrt_plan" or configuration.get("backend") == "tensorrt":
        return True
    accelerators = configuration.get("optimization", {}).get("execution_accelerators", {})
    return any(
        item.get("parameters", {}).get("precision_mode") == "FP16"
        for item in accelerators.get("gpu_execution_accelerator", [])
    )
