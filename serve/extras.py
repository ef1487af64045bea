"""Optional dependencies: what each extra of the distribution installs, and one line where it is missing."""

import importlib.util

_MODELS = ("torch", "torchvision", "open_clip", "huggingface_hub", "httpx2", "safetensors")  # to build and read them
EXTRAS: dict[str, tuple[str, ...]] = {  # extra -> modules of what it installs, as pyproject.toml lists it
    "triton": ("tritonclient", "grpc"),
    "postgres": ("psycopg",),
    "plots": ("matplotlib",),
    "wandb": ("wandb",),
    "training": (*_MODELS, "yaml", "tensorboard", "webdataset", "scipy", "sklearn"),
    "export": (*_MODELS, "onnx", "onnxscript", "scipy"),
}


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


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a finder that refuses it; `None` in sys.modules
        return False
