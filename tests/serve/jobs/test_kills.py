"""Servers killed while they work on a job: `tests.bench.jobs_bench` in short, on both stores."""

from pathlib import Path

import pytest

from tests.bench.jobs_bench import INPUTS, kill_rounds

ROUNDS = 2


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "gateways"), [("sqlite", 1), ("postgresql", 2)])
def test_a_killed_server_repeats_no_finished_input_and_loses_none(
    kind: str, gateways: int, request: pytest.FixtureRequest, tmp_path: Path, demo_clip: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    tally = kill_rounds(url, tmp_path / kind, demo_clip, rounds=ROUNDS, gateways=gateways, seed=1)
    assert (tally.rounds, tally.inputs) == (ROUNDS, ROUNDS * INPUTS)
    assert (tally.repeated, tally.lost) == (0, 0)
