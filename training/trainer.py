"""The training loop: fetch, forward, loss, backward, step, log, evaluate, save.

    python -m training train training/configs/demo.yaml --set run.steps=500

A run that was stopped goes on from its checkpoint; with one rendering worker it goes on bit for bit.
"""

import copy
import json
import logging
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from serve.contract import PreprocessContract, SamplingContract, ScoringContract, TextContract
from training.checkpoints.own import Checkpoint, load_checkpoint, save_checkpoint
from training.config import TrainConfig, plain
from training.demo.captions import combinations
from training.demo.card import demo_card
from training.demo.dataset import RenderedClips
from training.demo.phrases import PhraseBank
from training.demo.proof import measure_in_process
from training.losses import phrase_cross_entropy
from training.models.base import VideoTextModel
from training.models.registry import build_model

logger = logging.getLogger(__name__)

LOSS_WEIGHTS = {"label": 1.0, "activity": 0.5, "colour": 0.25}
HIGHEST_SCALE = 100.0


def set_seeds(seed: int) -> None:
    """Seed every generator a run draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then cosine to zero at the last step."""
    optim, steps = config.optim, config.run.steps
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    progress = (step - optim.warmup_steps) / max(steps - optim.warmup_steps, 1)
    return optim.lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def preprocess_of(config: TrainConfig) -> PreprocessContract:
    """How frames become squares, in training as in serving."""
    data = config.data
    return PreprocessContract(
        image_size=data.image_size,
        resize="shortest_side",
        short_side=data.image_size,
        interpolation="pillow_bicubic",
        size_rounding="truncate",
        crop_rounding="half_even",
        mean=data.mean,  # type: ignore[arg-type]
        std=data.std,  # type: ignore[arg-type]
    )


@dataclass
class State:
    """What a run carries from step to step."""

    model: VideoTextModel
    average: VideoTextModel  # exponential moving average, the weights that are kept
    optimiser: torch.optim.Optimizer
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def train(config: TrainConfig) -> Path:
    """Train to the end; returns the checkpoint's path."""
    torch.set_num_threads(config.run.threads)
    set_seeds(config.run.seed)
    path = Path(config.run.out) / "checkpoint.pt"
    state = start(config, path)
    bank = PhraseBank(seed=config.run.seed)
    started = time.perf_counter() - state.seconds
    for clips, indices in batches(config, first_step=state.step):
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(state.step, config)
        losses = forward(state.model, clips, indices, bank=bank, config=config, step=state.step)
        loss = sum(LOSS_WEIGHTS[name] * value for name, value in losses.items())
        assert isinstance(loss, Tensor)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(state.model.parameters(), config.optim.clip_norm)
        state.optimiser.step()
        with torch.no_grad():
            state.model.logit_scale.clamp_(max=math.log(HIGHEST_SCALE))
        follow_(state.average, state.model, decay=min(config.optim.ema, (state.step + 1) / (state.step + 10)))
        state.step += 1
        state.seconds = time.perf_counter() - started
        report(state, {name: value.item() for name, value in losses.items()}, config)
        if state.step % config.run.save_every == 0 or state.step == config.run.steps:
            save(path, state, config)
    return path


def start(config: TrainConfig, path: Path) -> State:
    """A fresh state, or that of the checkpoint at `path` when it belongs to the same configuration."""
    model = build_model(config.model.family, config.model.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    positions = getattr(getattr(model, "fusion", None), "frame_position_embeddings", None)
    if positions is not None:
        nn.init.normal_(positions.weight, std=config.model.frame_position_spread)
    average = copy.deepcopy(model).eval()
    state = State(model=model, average=average, optimiser=make_optimiser(model, config))
    if path.is_file():
        saved = load_checkpoint(path)
        if saved.provenance.get("config") == plain(config):
            kept = saved.training_state
            model.load_state_dict(kept["weights"])
            average.load_state_dict(saved.weights)
            state.optimiser.load_state_dict(kept["optimiser"])
            state.step, state.history, state.seconds = kept["step"], list(kept["history"]), kept["seconds"]
            torch.set_rng_state(kept["rng"])
            logger.info("going on from step %d of %s", state.step, path)
        else:
            logger.info("%s is of another configuration and will be replaced", path)
    model.train()
    return state


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; only matrices decay, and of those not the tables of embeddings."""
    decayed, kept = [], []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and "embedding" not in name
        (decayed if is_matrix else kept).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.optim.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.optim.lr, betas=config.optim.betas[:2])  # type: ignore[arg-type]


def batches(config: TrainConfig, *, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(clips uint8 [B, T, 3, S, S], indices [B]) for every step that is left."""
    clips = RenderedClips(
        num_frames=config.data.num_frames,
        rule=preprocess_of(config),
        first_seed=config.run.seed * 10**9 + first_step * config.run.batch_size,
    )
    loader = DataLoader(
        clips,
        batch_size=config.run.batch_size,
        num_workers=config.data.workers,
        prefetch_factor=4 if config.data.workers else None,
    )
    for step, batch in enumerate(loader, start=first_step):
        if step >= config.run.steps:
            return
        yield batch


def forward(
    model: VideoTextModel, clips: Tensor, indices: Tensor, *, bank: PhraseBank, config: TrainConfig, step: int
) -> dict[str, Tensor]:
    """Losses of one batch against all labels, all activities and all colours."""
    frames = normalised(clips, config)
    video = model.encode_video(frames).video_features  # [B, D]
    phrases = model.encode_text(bank.tokens(step))  # [R, D]
    scale = model.logit_scale.exp()
    return {
        name: phrase_cross_entropy(video, phrases[rows], targets[indices], scale=scale)
        for name, (rows, targets) in bank.tasks.items()
    }


def normalised(clips: Tensor, config: TrainConfig) -> Tensor:
    """Clips uint8 [B, T, 3, S, S] -> float as the exported graph normalises them."""
    mean = torch.tensor(config.data.mean).view(3, 1, 1)
    std = torch.tensor(config.data.std).view(3, 1, 1)
    return (clips.float() / 255 - mean) / std


@torch.no_grad()
def follow_(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Move the averaged weights towards the model's, in place; running statistics are copied."""
    ours = dict(model.named_parameters())
    for name, value in average.named_parameters():
        value.lerp_(ours[name], 1 - decay)
    statistics = dict(model.named_buffers())
    for name, value in average.named_buffers():
        value.copy_(statistics[name])


def report(state: State, losses: dict[str, float], config: TrainConfig) -> None:
    """Log every so often; evaluate the averaged weights now and then."""
    run = config.run
    if state.step % run.log_every == 0:
        told = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        rate = state.step * run.batch_size / max(state.seconds, 1e-9)
        logger.info("step %d/%d %s %.1f clips/s", state.step, run.steps, told, rate)
    if state.step % run.evaluate_every == 0 or state.step == run.steps:
        figures = {"step": state.step, **measure_in_process(state.average, preprocess_of(config), per_group=96)}
        state.history.append(figures)
        print(json.dumps(figures), flush=True)


def save(path: Path, state: State, config: TrainConfig) -> None:
    """Write the checkpoint in one step."""
    scale = min(state.average.logit_scale.detach().exp().item(), HIGHEST_SCALE)
    provenance = {
        "config": plain(config),
        "steps": state.step,
        "clips": state.step * config.run.batch_size,
        "train_seconds": round(state.seconds, 1),
        "history": state.history,
        "command": "make demo-model",
    }
    checkpoint = Checkpoint(
        family="actionclip",
        model_config=dict(config.model.model),
        weights=state.average.state_dict(),
        sampling=SamplingContract(rule="actionclip", num_segments=config.data.num_frames),
        preprocess=preprocess_of(config),
        text=TextContract(tokenizer="clip", context_length=state.model.context_length, dynamic_length=True, pad_id=0),
        scoring=ScoringContract(logit_scale=scale, ensembling="mean_probability", view_rule="mean_probability"),
        labels=tuple(item.label for item in combinations()),
        card=demo_card(state.history, seconds=state.seconds, clips=state.step * config.run.batch_size),
        provenance=provenance,
        training_state={
            "weights": state.model.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "step": state.step,
            "history": state.history,
            "seconds": state.seconds,
            "rng": torch.get_rng_state(),
        },
    )
    save_checkpoint(path, checkpoint)
