"""The trainer: configuration is strict, losses are what they say."""

from pathlib import Path

import pytest
import torch

from training.checkpoints.native_format import CheckpointError, load_checkpoint
from training.checkpoints.start import initial_model
from training.config import ConfigError, TrainConfig, as_dict, as_yaml, changed_keys, load_config, with_defaults
from training.losses import actionclip_kl, smoothed_cross_entropy, soft_cross_entropy
from training.models.adapters import merge_adapters
from training.trainer import set_seeds, train

DEMO = Path(__file__).resolve().parents[2] / "training" / "configs" / "demo.yaml"
SMALL = [
    "model.model.num_frames=2",
    "model.model.vision={kind: small, image_size: 32, num_frames: 2, widths: [8, 8, 16, 16], embed_dim: 16}",
    "model.model.text={kind: small, context_length: 32, vocab_size: 49408, token_width: 4, width: 16, layers: 1, heads: 2, embed_dim: 16}",  # noqa: E501
    "model.model.fusion={kind: Transf, layers: 1, heads: 2, positions: 4}",
    "data.image_size=32", "data.num_frames=2", "data.workers=0",
    "run.batch_size=2", "run.evaluate_every=1000", "run.log_every=1000", "run.save_every=2", "run.threads=1",
]  # fmt: skip


def small(out: Path, steps: int) -> TrainConfig:
    return load_config(DEMO, [*SMALL, f"run.out={out}", f"run.steps={steps}"])


def test_a_run_of_an_earlier_version_goes_on_under_new_keys() -> None:
    config = load_config(DEMO, SMALL)
    saved = as_dict(config)
    for key in ("val_split", "fold", "first_label"):
        del saved["data"][key]
    assert changed_keys(saved, as_dict(config)) == ["data.fold", "data.val_split"]
    assert changed_keys(with_defaults(saved), as_dict(config)) == []
    assert changed_keys(with_defaults(saved), as_dict(load_config(DEMO, [*SMALL, "data.fold=1"]))) == ["data.fold"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optim.lrr=1", "optim: unknown key lrr"),
        ("nosuch.a=1", "unknown key nosuch"),
        ("run.steps=many", "run.steps must be a whole number, got 'many'"),
        ("run.steps=2.0", "run.steps must be a whole number, got 2.0"),
        ("run.compile=1", "run.compile must be true or false, got 1"),
        ("run.precision=fp8", "run.precision must be 'fp32' or 'bf16', got 'fp8'"),
        ("data.train=2020-01-01", "data.train must be text .* put it in quotes"),
        ("optim.betas=[0.9, x]", r"optim\.betas\[1\] must be "),
        ("data.first_label=2", "data.first_label"),
        ("data.val_split=eval", "data.val_split"),
        ("run.steps=0", "exactly one of run.steps and run.epochs"),
        ("run.epochs=2", "exactly one of run.steps and run.epochs"),
        ("run.batch_size=0", "at least 1"),
        ("optim.layer_decay=0", "optim.layer_decay"),
        ("loss.smoothing=1", "loss.smoothing"),
        ("model.lora.rank=-1", "model.lora.rank"),
        ("optim.ema=1.5", "optim.ema"),
        ("optim.lr=fast", "optim.lr must be a .*number"),
        ("optim.lr=nan", "optim.lr must be a .*number"),
        ("optim.lr=.inf", "optim.lr must be a .*number"),
        ("optim.lr=[1e-5]", "optim.lr must be a .*number"),
        ("run.steps", "a.b=value"),
    ],
)
def test_a_wrong_configuration_is_named(change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(DEMO, [change])


@pytest.mark.parametrize("written", ["1e-5", "1.0e-5", "0.00001"])
def test_a_rate_may_be_written_as_people_do(written: str, tmp_path: Path) -> None:
    """YAML itself takes 1e-5 for text."""
    assert load_config(DEMO, [f"optim.lr={written}"]).optim.lr == 1e-5
    (tmp_path / "run.yaml").write_text(f"base: {DEMO}\noptim: {{lr: {written}}}\n")
    assert load_config(tmp_path / "run.yaml").optim.lr == 1e-5


@pytest.mark.parametrize(
    "path", sorted(DEMO.parent.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_the_resolved_configuration_is_one_to_train_by(path: Path, tmp_path: Path) -> None:
    config = load_config(path, ["data.templates=['caf\u00e9: {}', '{}']"])
    (tmp_path / "resolved.yaml").write_text(as_yaml(config), encoding="utf-8")
    assert load_config(tmp_path / "resolved.yaml") == config


def test_soft_and_smoothed_cross_entropy_agree() -> None:
    logits, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    targets = torch.full((6, 5), 0.1 / 5)
    targets[torch.arange(6), labels] += 0.9
    assert torch.allclose(soft_cross_entropy(logits, targets), smoothed_cross_entropy(logits, labels), atol=1e-6)


def test_kl_is_least_where_equal_labels_agree() -> None:
    labels = torch.tensor([0, 1, 0])
    agreeing = 10.0 * (labels[:, None] == labels[None, :]).float()
    assert actionclip_kl(agreeing, labels) < 1e-5 < actionclip_kl(torch.zeros(3, 3), labels)


def test_a_file_may_stand_on_another(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(f"base: {DEMO}\nrun: {{batch_size: 4}}\n")
    (tmp_path / "two.yaml").write_text("base: one.yaml\noptim: {lr: 2.0e-3}\n")
    config = load_config(tmp_path / "two.yaml")
    assert (config.run.batch_size, config.optim.lr, config.run.steps) == (4, 2e-3, load_config(DEMO).run.steps)
    (tmp_path / "one.yaml").write_text("base: two.yaml\n")
    with pytest.raises(ConfigError, match="depends on itself"):
        load_config(tmp_path / "two.yaml")
    (tmp_path / "two.yaml").write_text("base: nosuch.yaml\n")
    with pytest.raises(ConfigError, match="nosuch"):
        load_config(tmp_path / "two.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["loss.kind=nosuch"], "loss.kind must be one of phrases"),
        (["loss.kind=pairs", "loss.smoothing=0.1"], "cannot be used with loss.kind=pairs"),
        (["loss.mixup=0.8"], "several tasks"),
        (["optim.groups=nosuch"], "optim.groups"),
        (["optim.schedule=nosuch"], "optim.schedule"),
        (["model.frozen=['*']"], "all weights are frozen"),
        (["run.device=cuda"], "no GPU"),
        (["run.precision=bf16"], "bf16 requires a GPU"),
        (["run.micro_batch=3"], "run.micro_batch must divide"),
        (["run.steps=0", "run.epochs=1"], "is endless"),
        (["model.start=nosuch.pt"], "no file or folder at nosuch.pt"),
        (["model.start=open_clip:ViT-B-32"], "ARCH/TAG"),
    ],
)
def test_what_does_not_go_together_is_named(changes: list[str], words: str, tmp_path: Path) -> None:
    if torch.cuda.is_available() and words in ("no GPU", "bf16 requires a GPU"):
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError, match=words):
        train(load_config(DEMO, [*SMALL, f"run.out={tmp_path}", "run.steps=2", *changes]))


def test_frozen_weights_and_adapters_train_what_they_should(tmp_path: Path) -> None:
    changes = [
        "model.frozen=['text.*', 'visual.*']",
        "model.lora.rank=2",
        "model.lora.matrices=['*attn.in_proj_weight']",
    ]
    config = load_config(DEMO, [*SMALL, f"run.out={tmp_path}", "run.steps=3", "optim.ema=0.5", *changes])
    saved = load_checkpoint(train(config))
    first = starting_weights(config)
    moved = {name for name, value in saved.weights.items() if not torch.equal(value, first[name])}
    assert {
        "fusion.transformer.resblocks.0.attn.in_proj_weight",
        "text.transformer.resblocks.0.attn.in_proj_weight",
    } <= moved
    assert not {name for name in moved if name.startswith("text.") and not name.endswith("attn.in_proj_weight")}
    assert not {
        name for name in moved if name.startswith("visual.") and "running" not in name and "tracked" not in name
    }
    saved.build()  # adapters are merged: the file rebuilds its model alone
    assert load_config(tmp_path / "config.yaml") == config


def test_a_run_begins_with_weights_of_another(tmp_path: Path) -> None:
    first = train(load_config(DEMO, [*SMALL, f"run.out={tmp_path / 'first'}", "run.steps=2"]))
    changes = [
        f"model.start={first}",
        "model.model.fusion={kind: LSTM}",
        "optim.lr=0",
        f"run.out={tmp_path / 'second'}",
    ]
    second = load_checkpoint(train(load_config(DEMO, [*SMALL, *changes, "run.steps=1", "optim.ema=0"])))
    before = load_checkpoint(first).weights
    shared = [name for name in second.weights if name.startswith(("text.", "visual.")) and "running" not in name]
    assert all(torch.equal(second.weights[name], before[name]) for name in shared if "tracked" not in name)
    assert any(name.startswith("fusion.lstm") for name in second.weights)
    with pytest.raises(CheckpointError, match="a different shape"):
        train(
            load_config(
                DEMO, [*SMALL, *changes, "model.model.text.token_width=8", "run.steps=1", f"run.out={tmp_path}"]
            )
        )


def starting_weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    set_seeds(config.run.seed)
    return merge_adapters(initial_model(config.model))
