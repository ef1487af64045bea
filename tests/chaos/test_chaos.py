"""The cases that need neither root nor long; `python -m tests.chaos` runs all of them."""

from pathlib import Path

import pytest

from tests.chaos import cases
from tests.chaos.world import Case


@pytest.mark.parametrize(
    "case",
    [cases.killed_server, cases.deleted_upload_folder, cases.damaged_database_at_start],
    ids=lambda case: case.__name__,
)
def test_a_fault_ends_as_expected(case: Case, tmp_path: Path) -> None:
    assert case(tmp_path).failures == ()
