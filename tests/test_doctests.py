"""The examples in docstrings: every public function of these modules has one, and each is right."""

import doctest
import inspect
from importlib import import_module

import pytest

MODULES = (
    "serve.independence",
    "serve.lists.parts",
    "serve.parity",
    "serve.scoring",
    "serve.text.prompts",
    "serve.unicode_text",
    "serve.version_numbers",
    "serve.video.preprocess",
    "serve.video.sampling",
    "serve.video.windows",
    "tests.bench.segment_metrics",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_right_and_none_is_missing(name: str) -> None:
    module = import_module(name)
    public = [
        function
        for word, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == name and not word.startswith("_")
    ]
    assert public
    assert [function.__name__ for function in public if ">>>" not in (function.__doc__ or "")] == []
    assert doctest.testmod(module).failed == 0
