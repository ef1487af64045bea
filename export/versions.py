"""Which programs made an export; provenance, for the day numbers are questioned."""

from importlib.metadata import PackageNotFoundError, version

TOOLS = ("actserve", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino", "open_clip_torch")


def toolchain() -> dict[str, str]:
    """Installed version by distribution."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # onnxruntime comes under one of two names
    return found
