"""Model references are parsed in one place; a repository folder lists what it has."""

import pytest

from serve.errors import UnknownModel
from serve.repository import ModelReference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("demo", ModelReference("demo")),
        ("demo@2", ModelReference("demo", 2)),
        ("a.b-c_d@123456789", ModelReference("a.b-c_d", 123456789)),
        ("", ModelReference("")),
    ],
)
def test_a_reference_is_a_name_and_perhaps_a_version(text: str, expected: ModelReference) -> None:
    assert ModelReference.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("version", ["", "0", "-1", "1.0", "one", "٢", "01", "1" * 5000, "2147483648", "1@2", " 1"])
def test_what_is_not_a_version_number_is_refused(version: str) -> None:
    with pytest.raises(UnknownModel, match="must be NAME or NAME@VERSION"):
        ModelReference.parse(f"demo@{version}")
