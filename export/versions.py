"""Versions of the installed tools, for the provenance of an export."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTIONS = (
    "actserve", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino", "open_clip_torch"
)  # fmt: skip


def installed_versions() -> dict[str, str]:
    """Return the version of each installed distribution."""
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue  # e.g. one of the two distributions of onnxruntime
    return versions
