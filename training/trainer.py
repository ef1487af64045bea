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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from serve.contract import ScoringContract, TextContract
from training.checkpoints.own import Checkpoint, load_checkpoint, save_checkpoint
from training.config import TrainConfig, plain
from training.data.sources import Source, make_source
from training.data.systems import preprocess_of, sampling_of
from training.losses import phrase_cross_entropy
from training.models.base import VideoTextModel
from training.models.registry import build_model

logger = logging.getLogger(__name__)

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
    source = make_source(config)
    started = time.perf_counter() - state.seconds
    for clips, indices in source.batches(first_step=state.step):
        if state.step >= config.run.steps:
            break
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(state.step, config)
        losses = forward(state.model, clips, indices, source=source, config=config, step=state.step)
        loss = sum(source.weights[name] * value for name, value in losses.items())
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
        report(state, {name: value.item() for name, value in losses.items()}, config, source)
        if state.step % config.run.save_every == 0 or state.step == config.run.steps:
            save(path, state, config, source)
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


def forward(
    model: VideoTextModel, clips: Tensor, indices: Tensor, *, source: Source, config: TrainConfig, step: int
) -> dict[str, Tensor]:
    """Losses of one batch, one of each task of the source."""
    frames = normalised(clips, config)
    video = model.encode_video(frames).video_features  # [B, D]
    phrases = model.encode_text(source.tokens(step))  # [R, D]
    scale = model.logit_scale.exp()
    return {
        name: phrase_cross_entropy(video, phrases[rows], targets[indices], scale=scale)
        for name, (rows, targets) in source.tasks.items()
    }


def normalised(clips: Tensor, config: TrainConfig) -> Tensor:
    """Clips uint8 [B, T, 3, S, S] -> float as the exported graph normalises them."""
    rule = preprocess_of(config.data)
    mean = torch.tensor(rule.mean).view(3, 1, 1)
    std = torch.tensor(rule.std).view(3, 1, 1)
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


def report(state: State, losses: dict[str, float], config: TrainConfig, source: Source) -> None:
    """Log every so often; evaluate the averaged weights now and then."""
    run = config.run
    if state.step % run.log_every == 0:
        told = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        rate = state.step * run.batch_size / max(state.seconds, 1e-9)
        logger.info("step %d/%d %s %.1f clips/s", state.step, run.steps, told, rate)
    if state.step % run.evaluate_every == 0 or state.step == run.steps:
        figures = {"step": state.step, **source.measure(state.average)}
        state.history.append(figures)
        print(json.dumps(figures), flush=True)


def save(path: Path, state: State, config: TrainConfig, source: Source) -> None:
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
        sampling=sampling_of(config.data),
        preprocess=preprocess_of(config.data),
        text=TextContract(
            tokenizer="clip",
            context_length=state.model.context_length,
            dynamic_length=True,
            pad_id=0,
            templates=source.templates,
        ),
        scoring=ScoringContract(logit_scale=scale, ensembling="mean_probability", view_rule="mean_probability"),
        labels=source.labels,
        card=source.card(state.history, seconds=state.seconds, clips=state.step * config.run.batch_size),
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
