"""Report a run to Weights & Biases, if `run.wandb` names a project (`pip install 'actserve[wandb]'`).

W&B reads its environment variables: `WANDB_MODE=offline` only writes to the run's folder, `WANDB_API_KEY` contains the
API key. A resumed run continues the same W&B run; metrics after its last checkpoint are logged again.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from serve.extras import require_extra
from training.config import ConfigError, TrainConfig, as_dict

RUN_ID_FILE = "wandb_id"  # file in the run's folder that contains the id of the W&B run

LogMetrics = Callable[[int, Mapping[str, float]], None]  # called with the step and the values by name


def require_wandb(config: TrainConfig) -> None:
    """Check that W&B is installed if the run reports to it.

    Raises:
        MissingExtra: the package wandb is not installed.
    """
    if config.run.wandb:
        require_extra("wandb", needed_by="run.wandb")


@contextmanager
def wandb_report(config: TrainConfig, *, is_main_process: bool) -> Iterator[LogMetrics | None]:
    """Open a W&B run and yield a function that logs metrics; yield None without a project, or if the rank is not 0.

    Raises:
        ConfigError: W&B rejects the run, e.g. because no API key is set.
    """
    if not (config.run.wandb and is_main_process):
        yield None
        return
    import wandb

    out = Path(config.run.out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(
            project=config.run.wandb,
            name=out.name,
            dir=str(out),
            id=_run_id(out),
            resume="allow",
            config=as_dict(config),
        )
    except wandb.errors.Error as error:
        raise ConfigError(f"run.wandb={config.run.wandb}: {error}") from error
    run.define_metric("*", step_metric="step")  # W&B's own steps cannot be repeated after a resume

    def report(step: int, values: Mapping[str, float]) -> None:
        run.log({"step": step, **values})

    status = 1
    try:
        yield report
        status = 0
    finally:
        run.finish(exit_code=status)


def _run_id(out: Path) -> str:
    """Return the id of the run, which is created when the run starts for the first time."""
    path = out / RUN_ID_FILE
    if not path.is_file():
        path.write_text(secrets.token_hex(8), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
