"""Rates by depth: every weight is in one group, and lower blocks move slower."""

import pytest

from tests.models import tiny_actionclip, tiny_rotary, tiny_xclip
from training.config import OptimConfig
from training.optimisers import make_optimiser

MAKERS = {"actionclip": tiny_actionclip("Transf"), "xclip": tiny_xclip(), "plain": tiny_rotary()}


@pytest.mark.parametrize("groups", MAKERS)
def test_lower_blocks_move_slower(groups: str) -> None:
    model = MAKERS[groups].build()
    flat, decayed = (
        make_optimiser(model.named_parameters(), OptimConfig(groups=groups, lr=1.0, layer_decay=decay))
        for decay in (1.0, 0.5)
    )
    rates = [
        {name: group["peak"] for group in made.param_groups for name in group["names"]} for made in (flat, decayed)
    ]
    assert rates[0].keys() == rates[1].keys() == {name for name, _ in model.named_parameters()}
    assert sum(len(group["params"]) for group in decayed.param_groups) == len(rates[1])
    factor = {name: rates[1][name] / rates[0][name] for name in rates[0]}
    block = {"plain": "visual.tower.trunk.blocks.{}.norm1.weight"}.get(
        groups, "visual.transformer.resblocks.{}.ln_1.weight"
    )
    assert [factor[block.format(i)] for i in (0, 1)] == [0.5, 1.0]
    assert factor["logit_scale"] == 1.0
    stem = [name for name in factor if "patch_embed" in name or "conv1" in name or "token_embedding" in name]
    assert len(stem) >= 2
    assert {factor[name] for name in stem} == {0.25}
    if groups == "actionclip":
        assert factor["fusion.transformer.resblocks.0.ln_1.weight"] == 0.5
