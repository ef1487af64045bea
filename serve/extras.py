"""Optional dependencies: the modules that each extra installs, and the error for an extra that is missing."""

import importlib.util

_MODELS = (
    "torch",
    "torchvision",
    "open_clip",
    "huggingface_hub",
    "httpx2",
    "safetensors",
)  # needed to build and read models
EXTRAS: dict[str, tuple[str, ...]] = {  # extra -> top-level modules of its packages in pyproject.toml
    "triton": ("tritonclient", "grpc"),
    "postgres": ("psycopg",),
    "oidc": ("jwt", "cryptography"),
    "telemetry": ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    "plots": ("matplotlib",),
    "batch": ("pyarrow", "fsspec"),
    "wandb": ("wandb",),
    "training": (*_MODELS, "yaml", "tensorboard", "webdataset", "scipy", "sklearn"),
    "export": (*_MODELS, "onnx", "onnxscript", "scipy"),
}


class MissingExtra(ImportError):
    """An extra of the distribution is not installed."""


def require_extra(extra: str, *, needed_by: str = "this command") -> None:
    """Check that an extra is installed, without importing its modules.

    Raises:
        MissingExtra: it is not; the message names what needs it, the missing modules and the pip command.
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
    except (ImportError, ValueError):  # raised by a finder, or for `None` in sys.modules
        return False
