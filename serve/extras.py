"""Optional dependencies: what each extra of the distribution installs, and one line where it is missing."""

import importlib.util
import sys

EXTRAS: dict[str, tuple[str, ...]] = {  # extra -> modules of what it installs, as pyproject.toml lists it
    "triton": ("tritonclient", "grpc"),
    "postgres": ("psycopg",),
    "plots": ("matplotlib",),
    "training": (
        "torch",
        "torchvision",
        "open_clip",
        "huggingface_hub",
        "httpx2",
        "safetensors",
        "yaml",
        "tensorboard",
        "webdataset",
        "scipy",
        "sklearn",
    ),
    "export": (
        "torch",
        "torchvision",
        "open_clip",
        "huggingface_hub",
        "httpx2",
        "safetensors",
        "onnx",
        "onnxscript",
        "scipy",
    ),
}
MISSING_STATUS = 2  # exit status: nothing was done


class MissingExtra(ImportError):
    """An extra of the distribution is not installed."""


def require_extra(extra: str, *, needed_by: str = "this command") -> None:
    """Make sure that an extra is installed, without importing anything of it.

    Raises:
        MissingExtra: names what needs it, what is missing and how to install it.
    """
    missing = [name for name in EXTRAS[extra] if not _is_installed(name)]
    if missing:
        raise MissingExtra(
            f"{needed_by} needs the extra '{extra}' ({', '.join(missing)} not installed): "
            f"pip install 'actserve[{extra}]'"
        )


def exit_without(extra: str, *, needed_by: str) -> None:
    """End a program with one line on standard error where an extra is missing."""
    try:
        require_extra(extra, needed_by=needed_by)
    except MissingExtra as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(MISSING_STATUS) from None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a finder that refuses it; `None` in sys.modules
        return False
