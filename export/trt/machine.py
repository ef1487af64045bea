"""Detect whether this machine can run TensorRT, and what is missing."""

import importlib
from typing import Any

import torch

from export.trt.sidecar import Machine

MAJOR_VERSION = 10  # TensorRT 11 removed the fp16 flag of weakly typed networks


def load_tensorrt() -> tuple[Any, str]:
    """Return (module, "") or (None, reason why TensorRT cannot be used)."""
    try:
        tensorrt = importlib.import_module("tensorrt")
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # RuntimeError: the package is installed without its libraries
        return None, f"the package tensorrt: {error} (pip install 'tensorrt>=10,<11')"
    version = str(getattr(tensorrt, "__version__", "0"))
    if version.partition(".")[0] != str(MAJOR_VERSION):
        return None, f"TensorRT {MAJOR_VERSION}, found {version} (pip install 'tensorrt>=10,<11')"
    return tensorrt, ""


def missing_gpu_reason() -> str:
    """Return why torch finds no NVIDIA GPU, or an empty string."""
    if torch.cuda.is_available():
        return ""
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    return f"an NVIDIA GPU: torch {torch.__version__}, built with {cuda}, finds none"


def detect_machine() -> tuple[Machine | None, list[str]]:
    """Return (this machine, []) or (None, descriptions of what is missing)."""
    tensorrt, no_tensorrt = load_tensorrt()
    missing = [reason for reason in (no_tensorrt, missing_gpu_reason()) if reason]
    if missing:
        return None, missing
    major, minor = torch.cuda.get_device_capability(0)
    return (
        Machine(
            gpu=torch.cuda.get_device_name(0),
            compute_capability=f"{major}.{minor}",
            tensorrt=tensorrt.__version__,
        ),
        [],
    )
