"""The training loop: fetch, forward, loss, backward, check, step, check, log, evaluate, save.

    python -m training train training/configs/demo.yaml --set run.steps=500
    torchrun --nproc-per-node 8 -m training train training/configs/xclip/k400_vit-b-16_8.yaml --set data.train=...

A run that was stopped by SIGTERM, Ctrl-C or power loss resumes from its checkpoint, on a CPU with identical bits. Each
step seeds its random generators from seed, step and rank, so a batch does not depend on earlier steps.

A step whose losses, gradients or new weights are not finite ends the run before they are evaluated or saved. The same
command then resumes from the last checkpoint and skips the batch of that step.
"""

import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.config import ConfigError, TrainConfig
from training.data.augmentation.mixing import Mixing, smoothed_targets
from training.data.clips.reader import sample_rngs
from training.data.clips.rules import normalised, preprocess_of
from training.devices import autocast_context, select_device
from training.distributed import RankInfo, any_rank, barrier, check_batch_split, mean_over_ranks, process_group
from training.finite import are_finite, first_non_finite_output, gradient_norm, non_finite_names, shortened
from training.log_file import LOG, log_file
from training.monitor import Monitor, losses_text, open_monitor
from training.objectives import OBJECTIVES, Encoder, Objective, StepBatch, backward
from training.run_state import RunState, note_skipped, save_best, save_state, start_or_resume
from training.schedules import Schedule, TrainProgress, schedule_of
from training.sources.registry import Source, make_source
from training.stopping import NonFiniteError, StoppedError, StopSignal
from training.weights_and_biases import require_wandb, wandb_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """What is constant during a run."""

    config: TrainConfig
    rank_info: RankInfo
    source: Source
    objective: Objective
    encoder: nn.Module  # the model as called by a step
    rate_of: Schedule
    precision: Callable[[], AbstractContextManager[Any]]
    steps: int  # total steps
    epoch_steps: float

    def every(self, steps: int) -> int:
        """Return an interval in steps; 0 means one epoch."""
        return steps or max(1, round(self.epoch_steps))


def train(config: TrainConfig) -> Path:
    """Train to the end; return the path of the checkpoint.

    Raises:
        ConfigError: values contradict each other, or the folder holds a run of another configuration.
        AnnotationError, TooManyBadVideosError: the data cannot be used.
        NonFiniteError: a step produced NaN or infinity.
        StoppedError: the run received a stop signal and saved its state.
        MissingExtra: the run reports to Weights & Biases, which is not installed.
    """
    require_wandb(config)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    device = select_device(config.run.device, key="run.device")
    precision = autocast_context(config.run.precision, device, key="run.precision")
    with process_group(device) as rank_info, StopSignal() as stop:
        check_batch_split(config.run, rank_info.count)
        set_seeds(config.run.seed)
        source = make_source(config)
        length = run_length(config, source)
        state = start_or_resume(config, rank_info)
        context = make_context(config, source, state, rank_info, precision=precision, length=length)
        with (
            log_file(Path(config.run.out) / LOG, is_written=rank_info.is_first),
            wandb_report(config, is_first=rank_info.is_first) as wandb,
            open_monitor(
                Path(config.run.out),
                first_step=state.step,
                steps=context.steps,
                is_first=rank_info.is_first,
                wandb=wandb,
            ) as monitor,
        ):
            loop(state, context, monitor=monitor, stop=stop)
        return state.path


def make_context(
    config: TrainConfig,
    source: Source,
    state: RunState,
    rank_info: RankInfo,
    *,
    precision: Callable[[], AbstractContextManager[Any]],
    length: tuple[int, float],
) -> TrainContext:
    """Return the context of a run; `length` is the number of steps of the run and of an epoch.

    Raises:
        ConfigError: the objective is unknown or contradicts other values.
    """
    steps, epoch_steps = length
    return TrainContext(
        config=config,
        rank_info=rank_info,
        source=source,
        objective=objective_of(config, source),
        encoder=wrap_model(state.model, config, rank_info),
        rate_of=schedule_of(config.optim),
        precision=precision,
        steps=steps,
        epoch_steps=epoch_steps,
    )


def loop(state: RunState, context: TrainContext, *, monitor: Monitor, stop: StopSignal) -> None:
    """Run the remaining steps.

    Raises:
        NonFiniteError: a step produced NaN or infinity; the next run skips it.
        StoppedError: the run received a stop signal and saved its state.
    """
    run, first_step, begun, before = context.config.run, state.step, time.perf_counter(), state.seconds
    losses: dict[str, Tensor] = {}
    for clips, indices in context.source.batches(first_step=state.step) if state.step < context.steps else ():
        if state.step + 1 in state.skipped:
            logger.info("step %d is skipped: %s", state.step + 1, state.skipped[state.step + 1])
            state.skip_step()
        else:
            losses = take_step(state, context, clips, indices)
            state.step += 1
        state.seconds = before + time.perf_counter() - begun
        is_last = state.step == context.steps
        if losses and (state.step % run.log_every == 0 or is_last):
            speed = (state.step - first_step) * run.batch_size / (time.perf_counter() - begun)
            log_step(state, context, mean_over_ranks(losses), monitor=monitor, clips_per_second=speed)
        if state.step % context.every(run.evaluate_every) == 0 or is_last:
            evaluate(state, context, monitor=monitor)
        is_stopped = any_rank(stop.is_requested, context.rank_info.device)
        if state.step % context.every(run.save_every) == 0 or is_last or is_stopped:
            save_state(state, context.config, context.source, context.rank_info)
        if is_last:
            return
        if is_stopped:
            reason = f"stopped at step {state.step} of {context.steps}; the same command resumes from there"
            raise StoppedError(reason, number=stop.number)


def evaluate(state: RunState, context: TrainContext, *, monitor: Monitor) -> None:
    """Evaluate the current weights; write them to `best.pt` if they are the best so far."""
    measured = context.source.measure(state.best_weights)
    monitor.evaluation(state.step, measured)
    if state.note({"step": state.step, **measured.figures}):
        save_best(state, context.config, context.source, context.rank_info)


def take_step(state: RunState, context: TrainContext, clips: Tensor, indices: Tensor) -> dict[str, Tensor]:
    """Run forward, loss, backward and optimiser step; return the losses [] of this process.

    Raises:
        NonFiniteError: a loss, a gradient or a new weight is NaN or infinite.
    """
    config, optim = context.config, context.config.optim
    set_seeds(config.run.seed, state.step, context.rank_info.rank)
    now = TrainProgress(step=state.step, steps=context.steps, epoch_steps=context.epoch_steps)
    for group in state.optimiser.param_groups:
        group["lr"] = context.rate_of(now, group["peak"], optim)
    state.model.train()
    batch = make_batch(clips, indices, context, step=state.step)
    state.optimiser.zero_grad(set_to_none=True)
    losses = backward(
        context.encoder,
        batch,
        context.objective,
        weights=context.source.weights,
        micro_batch=config.run.micro_batch,
        precision=context.precision,
    )
    trained = [item for item in state.model.parameters() if item.requires_grad]
    norm = gradient_norm(trained)
    if any_rank(not are_finite([*losses.values(), norm.square()]), context.rank_info.device):  # Adam squares it
        refuse_step(state, context, non_finite_part(state, context, batch, losses))
    if optim.clip_norm:
        nn.utils.clip_grads_with_norm_(trained, optim.clip_norm, norm)
    state.optimiser.step()
    if optim.highest_scale:
        with torch.no_grad():
            state.model.logit_scale.clamp_(max=math.log(optim.highest_scale))
    if any_rank(not are_finite(state.model.state_dict().values()), context.rank_info.device):
        names = non_finite_names(state.model.state_dict()) or ["those of another process"]
        refuse_step(state, context, f"the weights after the step: {shortened(names)}")
    if state.average is not None:
        state.average.update_parameters(state.model)
    return losses


def refuse_step(state: RunState, context: TrainContext, part: str) -> NoReturn:
    """End the run at a non-finite step; the next run skips it.

    Raises:
        NonFiniteError: always.
    """
    step = state.step + 1
    if context.rank_info.is_first:
        note_skipped(state.path.parent, step, part)
    barrier()
    raise NonFiniteError(
        f"step {step} of {context.steps}: NaN or infinity in {part}. Nothing of this step is kept: the same command "
        f"resumes from {'the last checkpoint' if state.path.is_file() else 'the start'} and skips this batch "
        f"({len(state.skipped) + 1} so far). If further steps fail, begin a run with a lower optim.lr, "
        "optim.clip_norm=1 or run.precision=fp32 in another folder"
    )


def non_finite_part(state: RunState, context: TrainContext, batch: StepBatch, losses: Mapping[str, Tensor]) -> str:
    """Return the first non-finite part of a step, in the order of computation."""
    if not are_finite([batch.frames]):
        return "the input: normalised clips"
    if tasks := non_finite_names(losses):
        parts = batch.parts(context.config.run.micro_batch or len(batch.frames), own_tokens=context.objective.is_paired)
        encoder = Encoder(state.model)
        set_seeds(context.config.run.seed, state.step, context.rank_info.rank)
        module = first_non_finite_output(
            encoder,
            lambda: [encoder(part, is_paired=context.objective.is_paired) for part in parts],
            context=context.precision,
        )
        losses_named = f"the loss of {shortened(tasks)}"
        return f"{losses_named}, first in the output of {module.removeprefix('model.')}" if module else losses_named
    gradients = {name: item.grad for name, item in state.model.named_parameters() if item.grad is not None}
    names = non_finite_names(gradients)[::-1]  # backward runs from the last part to the first
    if names:
        return f"the gradient of {shortened(names)}"
    return "a value of another process" if context.rank_info.count > 1 else "the square of the gradient"


def log_step(
    state: RunState, context: TrainContext, losses: dict[str, float], *, monitor: Monitor, clips_per_second: float
) -> None:
    """Log losses, rates and speed."""
    rates = {str(number): group["lr"] for number, group in enumerate(state.optimiser.param_groups)}
    monitor.step(state.step, losses=losses, rates=rates, clips_per_second=clips_per_second)
    losses_shown = losses_text(losses, digits=6)
    logger.info("step %d/%d %s %.1f clips/s", state.step, context.steps, losses_shown, clips_per_second)


def make_batch(clips: Tensor, indices: Tensor, context: TrainContext, *, step: int) -> StepBatch:
    """Convert clips uint8 [b, T, 3, S, S] and their labels to a batch on the device."""
    config, source, device = context.config, context.source, context.rank_info.device
    frames = normalised(clips.to(device, non_blocking=True), preprocess_of(config.data))
    if context.objective.is_paired:
        tokens, targets = source.sample_tokens(indices, step), {"label": indices}
    else:
        tokens, loss = source.tokens(step), config.loss
        targets = {
            name: smoothed_targets(places[indices], rows.stop - rows.start, smoothing=loss.smoothing)
            for name, (rows, places) in source.tasks.items()
        }
        if loss.mixup or loss.cutmix:
            mixing = Mixing(mixup_alpha=loss.mixup, cutmix_alpha=loss.cutmix, cutmix_share=cutmix_share(config))
            rngs = sample_rngs((config.run.seed, step, context.rank_info.rank))
            frames, targets["label"] = mixing.mix(frames, targets["label"], rngs=rngs)
    return StepBatch(
        frames=frames,
        tokens=tokens.to(device),
        targets={name: value.to(device) for name, value in targets.items()},
        rows={name: rows for name, (rows, _) in source.tasks.items()},
    )


def cutmix_share(config: TrainConfig) -> float:
    """Return the share of batches with cutmix: 0 or 1 if only one of mixup and cutmix is on."""
    loss = config.loss
    if not (loss.mixup and loss.cutmix):
        return float(bool(loss.cutmix))
    return loss.cutmix_share


def objective_of(config: TrainConfig, source: Source) -> Objective:
    """Return the objective of a configuration.

    Raises:
        ConfigError: the name is unknown, or the objective contradicts other values.
    """
    loss = config.loss
    if loss.kind not in OBJECTIVES:
        raise ConfigError(f"loss.kind: one of {', '.join(OBJECTIVES)} is needed, found {loss.kind!r}")
    objective = OBJECTIVES[loss.kind]
    if objective.is_paired and (loss.mixup or loss.cutmix or loss.smoothing):
        raise ConfigError("loss.kind: pairs has no targets to smooth or mix")
    if objective.is_paired and config.model.family == "xclip" and config.model.model.get("prompts") is not None:
        raise ConfigError("loss.kind: X-CLIP's prompts need phrases; pairs compares plain features")
    if (loss.mixup or loss.cutmix) and set(source.tasks) != {"label"}:
        raise ConfigError(
            f"loss.mixup, loss.cutmix: the source {config.data.source} has several tasks and is not mixed"
        )
    return objective


def run_length(config: TrainConfig, source: Source) -> tuple[int, float]:
    """Return (steps of the run, steps of an epoch); an endless source has one epoch.

    Raises:
        ConfigError: the source is endless but epochs are given, or an epoch has no step.
    """
    run_ = config.run
    if source.num_entries is None:
        if run_.epochs:
            raise ConfigError("run.epochs: this source has no end; give run.steps")
        return run_.steps, float(run_.steps)
    epoch_steps = source.num_entries / run_.batch_size
    steps = run_.steps or round(run_.epochs * epoch_steps)
    if steps < 1:
        raise ConfigError(f"run.epochs: {source.num_entries} entries hold no batch of {run_.batch_size}")
    return steps, epoch_steps


def wrap_model(model: nn.Module, config: TrainConfig, rank_info: RankInfo) -> nn.Module:
    """Wrap the model for training: compiled and data-parallel as configured."""
    encoder: nn.Module = Encoder(model)  # type: ignore[arg-type]
    if config.run.compile:
        encoder = torch.compile(encoder)  # type: ignore[assignment]
    check_batch_norms(model, config, rank_info)
    if rank_info.count == 1:
        return encoder
    nn.SyncBatchNorm.convert_sync_batchnorm(model)  # modules are replaced in place
    return DistributedDataParallel(encoder, find_unused_parameters=True)


def check_batch_norms(model: nn.Module, config: TrainConfig, rank_info: RankInfo) -> None:
    """Refuse to split a batch of a model with batch norms, which would see only parts of it.

    On several GPUs SyncBatchNorm gives each of them the statistics of the whole batch, up to rounding.

    Raises:
        ConfigError: the model has batch norms, and the batch is split into micro-batches or over processes of a CPU.
    """
    norms = [name for name, part in model.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    found = f"the model has batch norms ({shortened(norms)}), which would see a part of the batch instead of the whole"
    if config.run.micro_batch and config.run.micro_batch < config.run.batch_size // rank_info.count:
        raise ConfigError(f"run.micro_batch: {found}, so the loss would be another; 0 or a smaller run.batch_size")
    if rank_info.count > 1 and rank_info.device.type != "cuda":
        raise ConfigError(f"run.device: {found}; several processes need GPUs (SyncBatchNorm), or train in one process")


def set_seeds(*words: int) -> None:
    """Seed all random generators from these numbers."""
    state = np.random.SeedSequence(words).generate_state(2)
    random.seed(int(state[0]))
    np.random.seed(int(state[0]))
    torch.manual_seed(int(state[0]) << 32 | int(state[1]))
