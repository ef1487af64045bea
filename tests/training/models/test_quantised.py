"""Weights in few bits: what is stored comes back to within half a step."""

import torch
from torch import nn

from training.models.quantised import (
    QuantisedLinear,
    QuantisedTable,
    quantise_matrix_,
    quantise_table_,
)


def test_a_matrix_comes_back_within_half_a_step() -> None:
    weight = torch.randn(7, 13, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    layer = QuantisedLinear(13, 7, bias=False)
    quantise_matrix_(layer, weight)
    found = layer(torch.eye(13)).T
    step = layer.scale.detach()
    assert ((found - weight).abs() <= 0.5 * step + step * 127 * 2**-10).all(), "the scale itself is a float16"
    assert torch.equal(found[3], torch.zeros(13))


def test_a_table_comes_back_within_half_a_step_where_it_is_not_clipped() -> None:
    rows = torch.randn(11, 16, generator=torch.Generator().manual_seed(0))
    table = QuantisedTable(11, 16)
    quantise_table_(table, rows, levels=16, spread=4.0)
    found = table(torch.arange(11))
    assert ((found - rows).abs() <= 0.51 * table.scale.detach()).all()
    assert torch.equal(table(torch.tensor([[3, 5]]))[0], found[[3, 5]])


def test_fewer_levels_use_fewer_codes() -> None:
    table = QuantisedTable(5, 64)
    quantise_table_(table, torch.randn(5, 64), levels=11, spread=2.0)
    assert int((table.codes >> 4).max()) <= 10 and int((table.codes & 15).max()) <= 10


def test_codes_are_part_of_a_checkpoint() -> None:
    assert "codes" in QuantisedLinear(3, 2).state_dict()
    assert not [name for name, _ in nn.Module.named_parameters(QuantisedTable(4, 4)) if name == "codes"]
