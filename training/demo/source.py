"""Training source that renders demo clips during training; each clip is used once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from training.config import ConfigError, DataConfig, TrainConfig
from training.data.clips.datasets import num_loading_workers, start_method
from training.data.clips.rules import make_preprocess_contract
from training.data.shared_memory import check_shared_memory, clip_num_bytes
from training.demo.captions import combinations
from training.demo.card import demo_card
from training.demo.dataset import RenderedClips
from training.demo.phrases import PhraseBank
from training.demo.proof import measure_in_process
from training.distributed import rank_and_world_size
from training.models.base import VideoTextModel
from training.monitor import EvaluationReport

TASK_WEIGHTS = {"label": 1.0, "activity": 0.5, "colour": 0.25}
UNSUPPORTED_KEYS = (
    "train", "val", "val_split", "root", "fold", "classes", "first_label", "shots", "extra", "randaugment",
    "directional", "mirrored",
)  # fmt: skip


class DemoSource:
    """Source of rendered clips, which are classified by label, by activity and by colour."""

    weights: Mapping[str, float] = TASK_WEIGHTS
    templates = ("{}",)
    num_entries: int | None = None

    def __init__(self, config: TrainConfig) -> None:
        if unsupported := [
            f"data.{name}" for name in UNSUPPORTED_KEYS if getattr(config.data, name) != getattr(DataConfig(), name)
        ]:
            raise ConfigError(
                f"{', '.join(unsupported)}: the demo source renders its clips and does not support these keys"
            )
        self._config = config
        if rank_and_world_size()[1] > 1:
            raise ConfigError("data.source: the demo world needs a single process; for several, render it to files")
        self._bank = PhraseBank(seed=config.run.seed)
        self.labels = tuple(item.label for item in combinations())
        self.tasks = self._bank.tasks

    def tokens(self, step: int) -> Tensor:
        """Return the tokens [R, L] of all phrases, each in a template that depends on `step`."""
        return self._bank.tokens(step)

    def sample_tokens(self, indices: Tensor, step: int) -> Tensor:
        """Return tokens [b, L] of the label of each clip, each with a sampled template."""
        return self._bank.sample_tokens(indices, step)

    def batches(self, *, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (clips uint8 [B, T, 3, S, S], indices [B]) endlessly."""
        config = self._config
        clips = RenderedClips(
            num_frames=config.data.num_frames,
            rule=make_preprocess_contract(config.data),
            first_seed=config.run.seed * 10**9 + first_step * config.run.batch_size,
            batch_size=config.run.batch_size,
        )
        workers = num_loading_workers(config.data.workers)
        check_shared_memory(clip_num_bytes(config.data), batch_size=config.run.batch_size, workers=2 * workers)
        yield from DataLoader(
            clips,
            batch_size=config.run.batch_size,
            num_workers=workers,
            multiprocessing_context=start_method(workers),
            prefetch_factor=4 if workers else None,
        )

    def measure(self, model: VideoTextModel) -> EvaluationReport:
        """Return top-1 on clips of the test world."""
        return EvaluationReport(
            metrics=measure_in_process(model, make_preprocess_contract(self._config.data), per_group=96)
        )

    def card(self, history: Sequence[dict[str, Any]], *, seconds: float, clips: int) -> str:
        """Return the model card."""
        return demo_card(history, seconds=seconds, clips=clips, is_last_round=bool(self._config.model.start))
