"""The training loop: fetch, forward, loss, backward, check, step, check, log, evaluate, save.

    python -m training train training/configs/demo.yaml --set run.steps=500
    torchrun --nproc-per-node 8 -m training train training/configs/xclip/k400_vit-b-16_8.yaml --set data.train=...

A run that was stopped by SIGTERM, Ctrl-C or a power failure resumes from its checkpoint; on a CPU, the result is
bit-identical to that of a run without a stop. Each step seeds the random generators from seed, step and rank, so a
batch does not depend on earlier steps.

If the losses, gradients or new weights of a step are not finite, the run ends before they are evaluated or saved. The
same command then resumes from the last checkpoint and skips the batch of that step.
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
from training.data.clips.rules import make_preprocess_contract, normalise_clips
from training.devices import autocast_context, select_device
from training.distributed import RankInfo, any_rank, barrier, check_batch_split, mean_over_ranks, process_group
from training.finite import are_finite, first_non_finite_output, gradient_norm, non_finite_names, shortened
from training.log_file import LOG_NAME, log_file
from training.monitor import Monitor, format_losses, open_monitor
from training.objectives import OBJECTIVES, Encoder, Objective, StepBatch, backward
from training.run_state import RunState, record_skipped_step, save_best, save_state, start_or_resume
from training.schedules import Schedule, TrainProgress, schedule_of
from training.sources.registry import Source, make_source
from training.stopping import NonFiniteError, StoppedError, StopSignal
from training.weights_and_biases import require_wandb, wandb_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """The objects and values that do not change during a run."""

    config: TrainConfig
    rank_info: RankInfo
    source: Source
    objective: Objective
    encoder: nn.Module  # an `Encoder` of the model, compiled and data-parallel as configured
    schedule: Schedule
    precision: Callable[[], AbstractContextManager[Any]]  # creates the autocast context of a forward pass
    total_steps: int
    steps_per_epoch: float

    def interval(self, steps: int) -> int:
        """Return an interval in steps; 0 means one epoch."""
        return steps or max(1, round(self.steps_per_epoch))


def train(config: TrainConfig) -> Path:
    """Train to the end; return the path of the checkpoint.

    Raises:
        ConfigError: values contradict each other, or the folder contains a run with a different configuration.
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
        check_batch_split(config.run, rank_info.world_size)
        set_seeds(config.run.seed)
        source = make_source(config)
        length = run_length(config, source)
        state = start_or_resume(config, rank_info)
        context = make_context(config, source, state, rank_info, precision=precision, length=length)
        with (
            log_file(Path(config.run.out) / LOG_NAME, is_enabled=rank_info.is_main_process),
            wandb_report(config, is_main_process=rank_info.is_main_process) as wandb,
            open_monitor(
                Path(config.run.out),
                completed_steps=state.step,
                total_steps=context.total_steps,
                is_main_process=rank_info.is_main_process,
                wandb=wandb,
            ) as monitor,
        ):
            train_steps(state, context, monitor=monitor, stop=stop)
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
    """Return the context of a run; `length` is (total steps, steps per epoch).

    Raises:
        ConfigError: the objective is unknown or contradicts other values.
    """
    total_steps, steps_per_epoch = length
    return TrainContext(
        config=config,
        rank_info=rank_info,
        source=source,
        objective=select_objective(config, source),
        encoder=wrap_model(state.model, config, rank_info),
        schedule=schedule_of(config.optim),
        precision=precision,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
    )


def train_steps(state: RunState, context: TrainContext, *, monitor: Monitor, stop: StopSignal) -> None:
    """Run the remaining steps; log, evaluate and save at the configured intervals.

    Raises:
        NonFiniteError: a step produced NaN or infinity; the next run skips it.
        StoppedError: the run received a stop signal and saved its state.
    """
    run, first_step = context.config.run, state.step
    start_time, earlier_seconds = time.perf_counter(), state.seconds
    losses: dict[str, Tensor] = {}
    for clips, indices in context.source.batches(first_step=state.step) if state.step < context.total_steps else ():
        if state.step + 1 in state.skipped:
            reason = state.skipped[state.step + 1]
            logger.info("step %d is skipped, because it produced NaN or infinity in %s", state.step + 1, reason)
            state.skip_step()
        else:
            losses = take_step(state, context, clips, indices)
            state.step += 1
        elapsed = time.perf_counter() - start_time
        state.seconds = earlier_seconds + elapsed
        is_last = state.step == context.total_steps
        if losses and (state.step % run.log_every == 0 or is_last):
            speed = (state.step - first_step) * run.batch_size / elapsed
            log_step(state, context, mean_over_ranks(losses), monitor=monitor, clips_per_second=speed)
        if state.step % context.interval(run.evaluate_every) == 0 or is_last:
            evaluate(state, context, monitor=monitor)
        is_stopped = any_rank(stop.is_requested, context.rank_info.device)
        if state.step % context.interval(run.save_every) == 0 or is_last or is_stopped:
            save_state(state, context.config, context.source, context.rank_info)
        if is_last:
            return
        if is_stopped:
            message = f"stopped at step {state.step} of {context.total_steps}; the same command resumes from there"
            raise StoppedError(message, signal_number=stop.signal_number)


def evaluate(state: RunState, context: TrainContext, *, monitor: Monitor) -> None:
    """Evaluate the current weights; write them to `best.pt` if they are the best so far."""
    report = context.source.measure(state.evaluated_model)
    monitor.evaluation(state.step, report)
    if state.record_evaluation({"step": state.step, **report.metrics}):
        save_best(state, context.config, context.source, context.rank_info)


def take_step(state: RunState, context: TrainContext, clips: Tensor, indices: Tensor) -> dict[str, Tensor]:
    """Run forward pass, loss, backward pass and optimiser step; return the scalar losses of this process.

    Raises:
        NonFiniteError: a loss, a gradient or a new weight is NaN or infinite.
    """
    config, optim = context.config, context.config.optim
    set_seeds(config.run.seed, state.step, context.rank_info.rank)
    progress = TrainProgress(step=state.step, total_steps=context.total_steps, steps_per_epoch=context.steps_per_epoch)
    for group in state.optimiser.param_groups:
        group["lr"] = context.schedule(progress, group["peak"], optim)
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
    # the squared norm is checked, because Adam squares gradients
    if any_rank(not are_finite([*losses.values(), norm.square()]), context.rank_info.device):
        abort_step(state, context, find_non_finite_part(state, context, batch, losses))
    if optim.clip_norm:
        nn.utils.clip_grads_with_norm_(trained, optim.clip_norm, norm)
    state.optimiser.step()
    if optim.highest_scale:
        with torch.no_grad():
            state.model.logit_scale.clamp_(max=math.log(optim.highest_scale))
    if any_rank(not are_finite(state.model.state_dict().values()), context.rank_info.device):
        names = non_finite_names(state.model.state_dict()) or ["on another process"]
        abort_step(state, context, f"the weights after the step: {shortened(names)}")
    if state.average is not None:
        state.average.update_parameters(state.model)
    return losses


def abort_step(state: RunState, context: TrainContext, part: str) -> NoReturn:
    """End the run at a non-finite step; when the run is resumed, it skips the step.

    Raises:
        NonFiniteError: always.
    """
    step = state.step + 1
    if context.rank_info.is_main_process:
        record_skipped_step(state.path.parent, step, part)
    barrier()
    raise NonFiniteError(
        f"step {step} of {context.total_steps}: NaN or infinity in {part}. This step was not saved: the same command "
        f"resumes from {'the last checkpoint' if state.path.is_file() else 'the start'} and skips this batch "
        f"({len(state.skipped) + 1} so far). If further steps fail, start a run with a lower optim.lr, "
        "optim.clip_norm=1 or run.precision=fp32 in another folder"
    )


def find_non_finite_part(state: RunState, context: TrainContext, batch: StepBatch, losses: Mapping[str, Tensor]) -> str:
    """Return a description of the first non-finite part of a step, in the order of computation."""
    if not are_finite([batch.frames]):
        return "the input (normalised clips)"
    if tasks := non_finite_names(losses):
        is_paired = context.objective.is_paired
        micro_batches = batch.split(context.config.run.micro_batch or len(batch.frames), is_paired=is_paired)
        encoder = Encoder(state.model)
        set_seeds(context.config.run.seed, state.step, context.rank_info.rank)
        module = first_non_finite_output(
            encoder,
            lambda: [encoder(part, is_paired=is_paired) for part in micro_batches],
            context=context.precision,
        )
        description = f"the loss of {shortened(tasks)}"
        return f"{description}, first in the output of {module.removeprefix('model.')}" if module else description
    gradients = {name: item.grad for name, item in state.model.named_parameters() if item.grad is not None}
    names = non_finite_names(gradients)[::-1]  # the backward pass computes the gradients of the last layers first
    if names:
        return f"the gradient of {shortened(names)}"
    return "a value of another process" if context.rank_info.world_size > 1 else "the square of the gradient"


def log_step(
    state: RunState, context: TrainContext, losses: dict[str, float], *, monitor: Monitor, clips_per_second: float
) -> None:
    """Log losses, learning rates and speed."""
    rates = {str(number): group["lr"] for number, group in enumerate(state.optimiser.param_groups)}
    monitor.step(state.step, losses=losses, learning_rates=rates, clips_per_second=clips_per_second)
    text = format_losses(losses, digits=6)
    logger.info("step %d/%d %s %.1f clips/s", state.step, context.total_steps, text, clips_per_second)


def make_batch(clips: Tensor, indices: Tensor, context: TrainContext, *, step: int) -> StepBatch:
    """Convert clips uint8 [b, T, 3, S, S] and their indices [b] to a batch on the device."""
    config, source, device = context.config, context.source, context.rank_info.device
    frames = normalise_clips(clips.to(device, non_blocking=True), make_preprocess_contract(config.data))
    if context.objective.is_paired:
        tokens, targets = source.sample_tokens(indices, step), {"label": indices}
    else:
        tokens, loss = source.tokens(step), config.loss
        targets = {
            name: smoothed_targets(labels[indices], phrases.stop - phrases.start, smoothing=loss.smoothing)
            for name, (phrases, labels) in source.tasks.items()
        }
        if loss.mixup or loss.cutmix:
            mixing = Mixing(
                mixup_alpha=loss.mixup, cutmix_alpha=loss.cutmix, cutmix_probability=cutmix_probability(config)
            )
            rngs = sample_rngs((config.run.seed, step, context.rank_info.rank))
            frames, targets["label"] = mixing.mix(frames, targets["label"], rngs=rngs)
    return StepBatch(
        frames=frames,
        tokens=tokens.to(device),
        targets={name: value.to(device) for name, value in targets.items()},
        phrases={name: phrases for name, (phrases, _) in source.tasks.items()},
    )


def cutmix_probability(config: TrainConfig) -> float:
    """Return the probability of CutMix for a batch; 0 or 1 if only one of MixUp and CutMix is on."""
    loss = config.loss
    if not (loss.mixup and loss.cutmix):
        return float(bool(loss.cutmix))
    return loss.cutmix_share


def select_objective(config: TrainConfig, source: Source) -> Objective:
    """Return the configured objective.

    Raises:
        ConfigError: the name is unknown, or the objective contradicts other values.
    """
    loss = config.loss
    if loss.kind not in OBJECTIVES:
        raise ConfigError(f"loss.kind must be one of {', '.join(OBJECTIVES)}, got {loss.kind!r}")
    objective = OBJECTIVES[loss.kind]
    if objective.is_paired and (loss.mixup or loss.cutmix or loss.smoothing):
        raise ConfigError("loss.smoothing, loss.mixup and loss.cutmix cannot be used with loss.kind=pairs")
    if objective.is_paired and config.model.family == "xclip" and config.model.model.get("prompts") is not None:
        raise ConfigError("loss.kind=pairs cannot be used with X-CLIP's prompts; use loss.kind=phrases")
    if (loss.mixup or loss.cutmix) and set(source.tasks) != {"label"}:
        raise ConfigError(
            f"loss.mixup and loss.cutmix cannot be used with the source {config.data.source}, which has several tasks"
        )
    return objective


def run_length(config: TrainConfig, source: Source) -> tuple[int, float]:
    """Return (total steps, steps per epoch); for an endless source, the whole run is one epoch.

    Raises:
        ConfigError: epochs are set but the source is endless, or the run has no step.
    """
    run = config.run
    if source.num_entries is None:
        if run.epochs:
            raise ConfigError("run.epochs cannot be used with this source, which is endless; set run.steps")
        return run.steps, float(run.steps)
    steps_per_epoch = source.num_entries / run.batch_size
    total_steps = run.steps or round(run.epochs * steps_per_epoch)
    if total_steps < 1:
        raise ConfigError(
            f"run.epochs: {run.epochs} epochs of {source.num_entries} entries have no batch of {run.batch_size}; "
            "increase run.epochs or decrease run.batch_size"
        )
    return total_steps, steps_per_epoch


def wrap_model(model: nn.Module, config: TrainConfig, rank_info: RankInfo) -> nn.Module:
    """Return an `Encoder` of the model, compiled and data-parallel as configured."""
    encoder: nn.Module = Encoder(model)  # type: ignore[arg-type]
    if config.run.compile:
        encoder = torch.compile(encoder)  # type: ignore[assignment]
    check_batch_norms(model, config, rank_info)
    if rank_info.world_size == 1:
        return encoder
    nn.SyncBatchNorm.convert_sync_batchnorm(model)  # modules are replaced in place
    return DistributedDataParallel(encoder, find_unused_parameters=True)


def check_batch_norms(model: nn.Module, config: TrainConfig, rank_info: RankInfo) -> None:
    """Check that batch norms, if the model has any, compute statistics over the whole batch.

    On several GPUs, SyncBatchNorm computes the statistics of the whole batch, up to rounding.

    Raises:
        ConfigError: the model has batch norms, and the batch is split into micro-batches or over several CPU processes.
    """
    norms = [name for name, part in model.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    reason = f"the model has batch norms ({shortened(norms)}), which would use only a part of the batch"
    if config.run.micro_batch and config.run.micro_batch < config.run.batch_size // rank_info.world_size:
        raise ConfigError(f"run.micro_batch: {reason}; set it to 0 or use a smaller run.batch_size")
    if rank_info.world_size > 1 and rank_info.device.type != "cuda":
        raise ConfigError(f"run.device: {reason}; train on GPUs (with SyncBatchNorm) or in one process")


def set_seeds(*entropy: int) -> None:
    """Seed the global random generators of Python, NumPy and torch from some numbers."""
    state = np.random.SeedSequence(entropy).generate_state(2)
    random.seed(int(state[0]))
    np.random.seed(int(state[0]))
    torch.manual_seed(int(state[0]) << 32 | int(state[1]))
