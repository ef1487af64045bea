"""The combinations of an evaluation are drawn from the whole group, not taken from its beginning."""

from collections import Counter

import pytest

from training.config import ConfigError
from training.demo.captions import held_out, seen
from training.demo.evaluation import draw_combinations, select_groups


@pytest.mark.parametrize("count", [50, 100, 200])
def test_a_draw_is_spread_over_the_group(count: int) -> None:
    """Travelling videos are a part of the combinations; their share in a draw strays by at most four errors."""
    group = seen()
    share = sum(item.direction != "" for item in group) / len(group)
    found = sum(item.direction != "" for item in draw_combinations(group, count, seed=7)) / count
    assert 0 < share < 1
    assert abs(found - share) < 4 * (share * (1 - share) / count) ** 0.5


def test_every_combination_comes_before_one_comes_again() -> None:
    group = tuple(sorted(held_out()))
    counts = Counter(draw_combinations(group, 2 * len(group) + 3, seed=1))
    assert set(counts.values()) == {2, 3}
    assert draw_combinations(group, 10, seed=1) != draw_combinations(group, 10, seed=2)


def test_videos_of_chosen_activities_alone() -> None:
    groups = select_groups(["waving in", "walking to the left"])
    assert {item.activity for part in groups.values() for item in part} == {"waving in", "walking to the left"}
    assert sum(len(part) for part in groups.values()) == 12
    with pytest.raises(
        ConfigError, match="--activity flying: not in the demo vocabulary, which has balancing on one leg, "
    ):
        select_groups(["flying"])
