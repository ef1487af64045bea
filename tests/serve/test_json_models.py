"""Bodies of JSON: each value has the type of its field, and is not converted from another one."""

import pytest
from pydantic import BaseModel

from serve.errors import InvalidOption
from serve.json_models import read_model


class Options(BaseModel):
    """Fields of each simple type."""

    number: int = 1
    share: float = 0.5
    is_on: bool = False
    name: str = ""
    times: tuple[float, ...] = ()


@pytest.mark.parametrize(
    "text",
    [
        '{"number": true}', '{"number": "5"}', '{"number": 5.0}', '{"share": true}', '{"share": "0.5"}', '{"is_on": 1}',
        '{"is_on": "yes"}', '{"name": 5}', '{"name": true}', '{"times": [true]}', '{"times": "12"}',
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match=r"number|share|is_on|name|times"):
        read_model(Options, text)


def test_a_json_array_is_a_tuple_and_a_whole_number_a_share() -> None:
    options = read_model(Options, '{"number": 5, "share": 1, "is_on": true, "name": "a", "times": [1, 2.5]}')
    assert options == Options(number=5, share=1.0, is_on=True, name="a", times=(1.0, 2.5))
