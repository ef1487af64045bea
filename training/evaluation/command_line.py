"""The command `evaluate`: evaluate a checkpoint on one or more lists, or compare two results.

python -m training evaluate runs/k400/checkpoint.pt val.txt --classes k400.csv --clips 4 --crops 3 --out result.json
python -m training evaluate --compare one.json other.json
torchrun --nproc-per-node 8 -m training evaluate runs/k400/checkpoint.pt val.txt --classes k400.csv --precision bf16
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from serve.extras import require_extra
from serve.files import file_sha256
from training.data.command_line import FirstLabel, Fold, ListKind, Root, Split
from training.evaluation.errors import EvaluationError

if TYPE_CHECKING:
    from training.data.lists.rows import ListOptions
    from training.evaluation.benchmark_splits import ZeroShotOptions
    from training.evaluation.inference import LoaderOptions
    from training.evaluation.results import EvaluationResult


CHECKPOINT_CLASSES = "checkpoint"  # marker in place of a class list: use the class names of the checkpoint


def evaluate(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT LIST...",
            help="Checkpoint and one or more lists (each is one split); with --compare, two result files.",
        ),
    ],
    compare: Annotated[bool, typer.Option("--compare", help="Compare two result files, paired by video.")] = False,
    source: ListKind = "",
    classes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Class list, e.g. a CSV `id,name`: one for all lists, or one per list.", exists=True, dir_okay=False
        ),
    ] = None,
    own_classes: Annotated[
        bool, typer.Option("--own-classes", help="Use the class names stored in the checkpoint.")
    ] = False,
    root: Root = None,
    fold: Fold = "",
    first_label: FirstLabel = None,
    split: Split = "",
    clips: Annotated[int, typer.Option(help="Clips per video.")] = 1,
    crops: Annotated[int, typer.Option(help="Crops per clip: 1 or 3.")] = 1,
    view_rule: Annotated[str, typer.Option(help="mean_probability or mean_logit; default: the checkpoint's.")] = "",
    templates: Annotated[
        Path | None, typer.Option(help="Text file with one template per line; each contains one {}.", exists=True)
    ] = None,
    system: Annotated[
        str, typer.Option(help="Sampling and cropping protocol: plain, actionclip or xclip; default: the checkpoint's.")
    ] = "",
    train_classes: Annotated[
        Path | None,
        typer.Option(
            help="List of the training classes; fails if evaluated classes are among them.", exists=True, dir_okay=False
        ),
    ] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Report classes seen in training instead of failing.")
    ] = False,
    class_draws: Annotated[
        int, typer.Option(min=0, max=100, help="Number of random class subsets; each is one split.")
    ] = 0,
    classes_per_draw: Annotated[int, typer.Option(min=0, help="Classes per random subset.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the class subsets.")] = 0,
    num_frames: Annotated[
        int | None, typer.Option(min=1, help="Frames per clip, if a third-party checkpoint does not store the number.")
    ] = None,
    activation: Annotated[
        Literal["quick_gelu", "gelu"] | None,
        typer.Option(help="Activation of the CLIP towers, if it cannot be determined from the checkpoint."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json, for models that do not use CLIP's tokenizer.")
    ] = None,
    near_duplicates: Annotated[
        bool,
        typer.Option("--near-duplicates", help="Find re-encoded copies; confidence intervals count them as one video."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file for the result; the scores go to .scores.npz next to it.", dir_okay=False),
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for plots.", file_okay=False)] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Views per forward pass.")] = 16,
    workers: Annotated[
        int,
        typer.Option(min=0, max=256, help="Loading processes, at most one per processor; 0: load in the main process."),
    ] = 4,
    deadline: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Time limit for reading one video, in seconds.")
    ] = 30.0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto uses a GPU if there is one.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 on a GPU.")] = "fp32",
) -> None:
    """Evaluate a checkpoint on labelled videos, or compare two results; the last line of stdout is a JSON summary.

    Under torchrun, the videos are divided among the processes.
    """
    if compare:
        _compare(paths, out=out)
        return
    from training.data.lists.rows import ListOptions
    from training.evaluation.benchmark_splits import ZeroShotOptions
    from training.evaluation.inference import LoaderOptions

    if len(paths) < 2:
        raise EvaluationError(f"expected a checkpoint and at least one list, got {len(paths)} argument(s)")
    lists = paths[1:]
    if own_classes and classes:
        raise EvaluationError("--classes and --own-classes are mutually exclusive")
    if bool(class_draws) != bool(classes_per_draw):
        raise EvaluationError("--class-draws and --classes-per-draw must be given together")
    _require_writable_outputs(out, plots)
    result = _evaluate(
        Path(paths[0]),
        lists,
        classes=[CHECKPOINT_CLASSES] * len(lists) if own_classes else _one_per_list(classes or [None], len(lists)),
        options=ListOptions(kind=source, root=root, fold=fold, first_label=first_label),
        split=split,
        overrides={
            "num_clips": clips,
            "num_crops": crops,
            "view_rule": view_rule,
            "templates": _read_templates(templates),
            "system": system,
            "precision": precision,
        },
        zero_shot=ZeroShotOptions(
            train_classes=train_classes,
            allow_overlap=allow_overlap,
            num_subsets=class_draws,
            classes_per_subset=classes_per_draw,
            seed=seed,
        ),
        loader_options=LoaderOptions(batch_size=batch_size, workers=workers, deadline_seconds=deadline),
        num_frames=num_frames,
        activation=activation,
        tokenizer=tokenizer,
        device=device,
        near_duplicates=near_duplicates,
    )
    if result is not None:
        _report(result, out=out, plots=plots)


def _evaluate(
    path: Path,
    lists: Sequence[str],
    *,
    classes: Sequence[Path | str | None],  # one per list
    options: "ListOptions",
    split: str,
    overrides: Mapping[str, Any],  # keyword arguments of `make_protocol`
    zero_shot: "ZeroShotOptions",
    loader_options: "LoaderOptions",
    num_frames: int | None,
    activation: str | None,
    tokenizer: Path | None,
    device: str,
    near_duplicates: bool,
) -> "EvaluationResult | None":
    """Evaluate a checkpoint; return None in all processes but the first.

    Raises:
        EvaluationError, ConfigError, AnnotationError: the input is invalid.
    """
    from serve.errors import ActserveError
    from training.checkpoints.native_format import CheckpointError
    from training.data.prompts import tokenizer_of
    from training.devices import select_device
    from training.distributed import process_group
    from training.evaluation.benchmark_splits import evaluate_splits
    from training.evaluation.checkpoints import read_for_evaluation
    from training.evaluation.protocol import make_protocol
    from training.evaluation.results import EvaluationResult
    from training.evaluation.videos import group_near_duplicates, read_list
    from training.models.base import ModelConfigError

    try:
        checkpoint, identity = read_for_evaluation(
            path, num_frames=num_frames, activation=activation, tokenizer=tokenizer
        )
        protocol = make_protocol(checkpoint, **overrides)
        if CHECKPOINT_CLASSES in classes and not checkpoint.labels:
            raise EvaluationError(f"{path} contains no class names; give them with --classes")
        video_lists = [
            read_list(
                each,
                classes=checkpoint.labels if names == CHECKPOINT_CLASSES else names,
                options=options,
                split=split,
            )
            for each, names in zip(lists, classes, strict=True)
        ]
        if near_duplicates:
            video_lists = [
                group_near_duplicates(
                    each, workers=loader_options.workers, deadline_seconds=loader_options.deadline_seconds
                )
                for each in video_lists
            ]
        for line in (line for each in video_lists for line in each.layout):
            typer.echo(line, err=True)
        torch_device = select_device(device, key=f"--device {device}")
        with process_group(torch_device) as process:
            splits = evaluate_splits(
                checkpoint.build().to(torch_device),
                protocol,
                video_lists,
                tokenizer=tokenizer_of(protocol.text, tokenizer, key="--tokenizer"),
                loader_options=loader_options,
                zero_shot=zero_shot,
            )
    except (CheckpointError, ModelConfigError, ActserveError, FileNotFoundError) as error:
        raise EvaluationError(str(error)) from error
    return (
        EvaluationResult(checkpoint=identity, protocol=protocol.document(), splits=splits)
        if process.is_main_process
        else None
    )


def _require_writable_outputs(out: Path | None, plots: Path | None) -> None:
    """Check that the outputs can be written, before the evaluation starts.

    Raises:
        EvaluationError: a folder is not writable.
        MissingExtra: the extra `plots` is not installed.
    """
    from training.evaluation.results import require_writable

    if out is not None:
        require_writable(out.parent)
    if plots is not None:
        require_extra("plots", needed_by="--plots")
        require_writable(plots)


def _report(result: "EvaluationResult", *, out: Path | None, plots: Path | None) -> None:
    """Print the table, write the requested files, and print the JSON line."""
    from training.evaluation.report_tables import result_table
    from training.evaluation.results import result_document, result_summary, write_document, write_scores

    for line in result_table(result):
        typer.echo(line)
    scores = None
    if out is not None:
        scores = write_scores(out, result)
        write_document(out, {**result_document(result), "scores": {"file": scores.name, "sha256": file_sha256(scores)}})
    plot_files: list[Path] = []
    if plots is not None:
        from training.evaluation.plots import draw_result

        plot_files = draw_result(result, plots)
    files = {
        "out": str(out) if out else None,
        "scores": str(scores) if scores else None,
        "plots": [str(path) for path in plot_files],
    }
    typer.echo(json.dumps({**result_summary(result), **files}))


def _compare(paths: Sequence[str], *, out: Path | None) -> None:
    from training.evaluation.comparison import compare, comparison_document, comparison_summary
    from training.evaluation.report_tables import comparison_table
    from training.evaluation.results import write_document
    from training.evaluation.stored_results import read_result

    if len(paths) != 2:
        raise EvaluationError(f"--compare requires two result files, got {len(paths)}")
    first, second = (read_result(Path(path)) for path in paths)
    _require_writable_outputs(out, None)
    comparisons = compare(first, second)
    content = comparison_document(first, second, comparisons)
    if out is not None:
        write_document(out, content)
    is_same = bool(content["is_same_protocol"])
    for line in comparison_table(
        comparisons, first=first.checkpoint, second=second.checkpoint, is_same_protocol=is_same
    ):
        typer.echo(line)
    typer.echo(json.dumps(comparison_summary(content)))


def _one_per_list(files: Sequence[Path | None], num_lists: int) -> Sequence[Path | None]:
    if len(files) not in (1, num_lists):
        raise EvaluationError(f"--classes must be given once or {num_lists} times (once per list), got {len(files)}")
    return list(files) * num_lists if len(files) == 1 else files


def _read_templates(file: Path | None) -> list[str]:
    """Return the non-empty lines of a text file."""
    if file is None:
        return []
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{file} cannot be read: {error}") from error
    if not any(lines):
        raise EvaluationError(f"{file} contains no template; write one per line")
    return [line for line in lines if line]
