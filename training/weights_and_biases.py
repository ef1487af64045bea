"""Report a run to Weights & Biases, if `run.wandb` names a project (`pip install 'actserve[wandb]'`).

W&B's own variables apply: `WANDB_MODE=offline` writes to the run's folder only, `WANDB_API_KEY` names the account. A
resumed run is the same run there; points after its last checkpoint are reported again.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from serve.extras import require_extra
from training.config import ConfigError, TrainConfig, as_dict

RUN_ID = "wandb_id"  # file in the run's folder

Report = Callable[[int, Mapping[str, float]], None]  # step, name -> value


def require_wandb(config: TrainConfig) -> None:
    """Make sure that W&B is installed if the run reports to it.

    Raises:
        MissingExtra: it is not.
    """
    if config.run.wandb:
        require_extra("wandb", needed_by="run.wandb")


@contextmanager
def wandb_report(config: TrainConfig, *, is_first: bool) -> Iterator[Report | None]:
    """Open the run at W&B within the context; None without a project, and on ranks other than the first.

    Raises:
        ConfigError: W&B does not accept the run, e.g. without an account.
    """
    if not (config.run.wandb and is_first):
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
    """Return the id of the run, made at its first start."""
    path = out / RUN_ID
    if not path.is_file():
        path.write_text(secrets.token_hex(8), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
