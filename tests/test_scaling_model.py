"""The simulation of servers agrees with queues whose waiting times are known, and shares processors."""

import pytest

pytest.importorskip("simpy", reason="the simulation needs simpy, of the extra dev")

from tests.bench.scaling_model import (
    ServerShape,
    Service,
    Stage,
    core_seconds,
    engine_stage,
    servers_needed,
    simulate,
)

NOTHING = Stage(seconds=1e-6, cores=1.0)
DECODING = Stage(seconds=0.1, cores=1.0)
DECODE_ONLY = Service(gateway=NOTHING, decode=[DECODING], engine={1: NOTHING})


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_one_decode_child_is_an_m_d_1_queue(load: float) -> None:
    shape = ServerShape(cores=1, decode_children=1, max_views=1000)
    found = simulate(DECODE_ONLY, shape, per_second=load / 0.1, num_requests=4000)
    expected = 0.1 * (1 + load / (2 * (1 - load)))  # Pollaczek and Khinchine
    assert found.mean_seconds == pytest.approx(expected, rel=0.1)
    assert found.utilization == pytest.approx(load, rel=0.1)


def test_children_share_the_cores() -> None:
    """Two children on one core take as long as one: an M/G/1 queue with processor sharing has this mean."""
    shape = ServerShape(cores=1, decode_children=1000, max_views=1000)
    found = simulate(DECODE_ONLY, shape, per_second=5.0, num_requests=4000)
    assert found.mean_seconds == pytest.approx(0.1 / (1 - 0.5), rel=0.1)


def test_batches_grow_with_the_load_and_are_bounded() -> None:
    service = Service(gateway=NOTHING, decode=[NOTHING], engine={1: DECODING, 8: Stage(seconds=0.2, cores=1.0)})
    shape = ServerShape(cores=1, decode_children=2)
    low, high = (simulate(service, shape, per_second=rate, num_requests=1000) for rate in (1.0, 35.0))
    assert low.mean_batch < 1.2 and 4 < high.mean_batch <= 8
    assert core_seconds(service, batch=8) == pytest.approx(0.025, rel=0.01)
    assert engine_stage(service.engine, 8).seconds == 0.2


def test_more_load_needs_more_servers() -> None:
    shape = ServerShape(cores=2, decode_children=2)
    few, many = (
        servers_needed(DECODE_ONLY, shape, per_second=rate, p95_seconds=0.5, num_requests=500)[0]
        for rate in (10.0, 100.0)
    )
    assert few < many <= 8
    with pytest.raises(ValueError, match="an idle server takes"):
        servers_needed(DECODE_ONLY, shape, per_second=1.0, p95_seconds=0.05)
