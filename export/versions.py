"""Versions of the programs that made an export, for its provenance."""

from importlib.metadata import PackageNotFoundError, version

TOOLS = ("actserve", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino", "open_clip_torch")


def toolchain() -> dict[str, str]:
    """Installed version by distribution."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # onnxruntime has two distribution names
    return found
