"""Modules that libraries load during a request; the fork server loads them, because isolated children open no files.

`tests/serve/video/test_isolation.py` decodes all kinds of files and fails if another module is loaded late.
"""

import importlib
import pkgutil

import av
from PIL import Image

_MODULES = (
    *(f"encodings.{name}" for name in ("ascii", "cp437", "cp1252", "idna", "latin_1", "utf_16", "utf_16_be")),
    *(f"encodings.{name}" for name in ("utf_16_le", "utf_32", "utf_8_sig")),
    *("numpy.char", "numpy.fft", "numpy.linalg", "numpy.ma", "numpy.polynomial", "numpy.random", "numpy.strings"),
    "serve.video.library_errors",
    "traceback",
)


def load_late_modules() -> None:
    """Load the modules that decoding may need later: all of PyAV, and all formats of Pillow."""
    Image.init()
    of_av = [
        module.name for module in pkgutil.walk_packages(av.__path__, "av.") if not module.name.endswith("__main__")
    ]
    for name in (*_MODULES, *of_av):
        importlib.import_module(name)
