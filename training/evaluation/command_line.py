"""The command `evaluate`: a checkpoint on one or several lists, or two results compared.

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
from training.data.command_line import FirstLabel, Fold, Root, SourceOf, Split
from training.evaluation.errors import EvaluationError

if TYPE_CHECKING:
    from training.data.lists.rows import ListOptions
    from training.evaluation.benchmark_splits import ZeroShot
    from training.evaluation.inference import LoaderOptions
    from training.evaluation.results import Result


OWN = "own"  # in place of a file of class names: those of the checkpoint


def evaluate(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT LIST...", help="Several lists are splits; under --compare: two result files."
        ),
    ],
    compare: Annotated[bool, typer.Option("--compare", help="Compare two result files in pairs.")] = False,
    source: SourceOf = "",
    classes: Annotated[
        list[Path] | None,
        typer.Option(
            help="Class list, e.g. a CSV `id,name`: one for all lists, or one each.", exists=True, dir_okay=False
        ),
    ] = None,
    own_classes: Annotated[bool, typer.Option("--own-classes", help="Those the checkpoint was trained on.")] = False,
    root: Root = None,
    fold: Fold = "",
    first_label: FirstLabel = None,
    split: Split = "",
    clips: Annotated[int, typer.Option(help="Clips of a video.")] = 1,
    crops: Annotated[int, typer.Option(help="Crops of a clip: 1 or 3.")] = 1,
    view_rule: Annotated[str, typer.Option(help="mean_probability or mean_logit; the checkpoint's where empty.")] = "",
    templates: Annotated[
        Path | None, typer.Option(help="Text file with a template a line, each with one {}.", exists=True)
    ] = None,
    system: Annotated[
        str, typer.Option(help="Sampling and cuts of plain, actionclip or xclip; the checkpoint's where empty.")
    ] = "",
    train_classes: Annotated[
        Path | None,
        typer.Option(help="Class names of training: makes sure that this is zero-shot.", exists=True, dir_okay=False),
    ] = None,
    allow_overlap: Annotated[bool, typer.Option("--allow-overlap", help="Note classes of training, go on.")] = False,
    class_draws: Annotated[int, typer.Option(min=0, max=100, help="Random choices of classes, each a split.")] = 0,
    classes_per_draw: Annotated[int, typer.Option(min=0, help="Classes of each choice.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of those choices.")] = 0,
    num_frames: Annotated[int | None, typer.Option(min=1, help="T, where a foreign file does not say it.")] = None,
    activation: Annotated[
        Literal["quick_gelu", "gelu"] | None,
        typer.Option(help="Of CLIP's towers, where neither a foreign file nor its origin tells."),
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="tokenizer.json of a model whose own is not CLIP's.")] = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Compare pictures: recoded copies count once in intervals.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file for the result; all scores go to .scores.npz beside it.", dir_okay=False),
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for pictures.", file_okay=False)] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Views the model sees at a time.")] = 16,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Loading processes, at most one per processor; 0: none of their own.")
    ] = 4,
    deadline: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds one video may take.")] = 30.0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 on a GPU.")] = "fp32",
) -> None:
    """Evaluate a checkpoint on labelled videos, or compare two results; the last line is one JSON document.

    Under torchrun its processes share the videos.
    """
    if compare:
        _compare(paths, out=out)
        return
    from training.data.lists.rows import ListOptions
    from training.evaluation.benchmark_splits import ZeroShot
    from training.evaluation.inference import LoaderOptions

    if len(paths) < 2:
        raise EvaluationError("a checkpoint and at least one list are needed")
    lists = paths[1:]
    if own_classes and classes:
        raise EvaluationError("--classes and --own-classes: give one of them")
    if bool(class_draws) != bool(classes_per_draw):
        raise EvaluationError("--class-draws and --classes-per-draw go together")
    _require_places(out, plots)
    result = _evaluated(
        Path(paths[0]),
        lists,
        classes=[OWN] * len(lists) if own_classes else _one_each(classes or [None], len(lists)),
        options=ListOptions(kind=source, root=root, fold=fold, first_label=first_label),
        split=split,
        changes={
            "num_clips": clips,
            "num_crops": crops,
            "view_rule": view_rule,
            "templates": _lines(templates),
            "system": system,
            "precision": precision,
        },
        zero_shot=ZeroShot(
            train_classes=train_classes,
            is_overlap_allowed=allow_overlap,
            num_draws=class_draws,
            classes_per_draw=classes_per_draw,
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
        _tell(result, out=out, plots=plots)


def _evaluated(
    path: Path,
    lists: Sequence[str],
    *,
    classes: Sequence[Path | str | None],  # of each list
    options: "ListOptions",
    split: str,
    changes: Mapping[str, Any],  # of `protocol_of`
    zero_shot: "ZeroShot",
    loader_options: "LoaderOptions",
    num_frames: int | None,
    activation: str | None,
    tokenizer: Path | None,
    device: str,
    near_duplicates: bool,
) -> "Result | None":
    """The result of a checkpoint; None for all processes but the first.

    Raises:
        EvaluationError, ConfigError, AnnotationError: what the caller can fix.
    """
    from serve.errors import ActserveError
    from training.checkpoints.native_format import CheckpointError
    from training.data.prompts import tokenizer_of
    from training.devices import select_device
    from training.distributed import process_group
    from training.evaluation.benchmark_splits import evaluate_splits
    from training.evaluation.checkpoints import read_evaluated
    from training.evaluation.protocol import protocol_of
    from training.evaluation.results import Result
    from training.evaluation.videos import joined_near_duplicates, read_list
    from training.models.base import ModelConfigError

    try:
        checkpoint, identity = read_evaluated(path, num_frames=num_frames, activation=activation, tokenizer=tokenizer)
        protocol = protocol_of(checkpoint, **changes)
        if OWN in classes and not checkpoint.labels:
            raise EvaluationError(f"{path} has no class names: give them with --classes")
        listed = [
            read_list(each, classes=checkpoint.labels if names == OWN else names, options=options, split=split)
            for each, names in zip(lists, classes, strict=True)
        ]
        if near_duplicates:
            listed = [
                joined_near_duplicates(
                    each, workers=loader_options.workers, deadline_seconds=loader_options.deadline_seconds
                )
                for each in listed
            ]
        for line in (line for each in listed for line in each.layout):
            typer.echo(line, err=True)
        own_device = select_device(device, key=f"--device {device}")
        with process_group(own_device) as place:
            splits = evaluate_splits(
                checkpoint.build().to(own_device),
                protocol,
                listed,
                tokenizer=tokenizer_of(protocol.text, tokenizer, key="--tokenizer"),
                loader_options=loader_options,
                zero_shot=zero_shot,
            )
    except (CheckpointError, ModelConfigError, ActserveError, FileNotFoundError) as error:
        raise EvaluationError(str(error)) from error
    return Result(checkpoint=identity, protocol=protocol.document(), splits=splits) if place.is_first else None


def _require_places(out: Path | None, plots: Path | None) -> None:
    """Whether there will be a place for what comes of it.

    Raises:
        EvaluationError: there will not.
        MissingExtra: the extra `plots` is not installed.
    """
    from training.evaluation.results import require_writable

    if out is not None:
        require_writable(out.parent)
    if plots is not None:
        require_extra("plots", needed_by="--plots")
        require_writable(plots)


def _tell(result: "Result", *, out: Path | None, plots: Path | None) -> None:
    """Print the table, write what was asked for, print the JSON line."""
    from training.evaluation.report_tables import result_table
    from training.evaluation.results import document, summary, write_document, write_scores

    for line in result_table(result):
        typer.echo(line)
    scores = None
    if out is not None:
        scores = write_scores(out, result)
        write_document(out, {**document(result), "scores": {"file": scores.name, "sha256": file_sha256(scores)}})
    drawn: list[Path] = []
    if plots is not None:
        from training.evaluation.plots import draw_result

        drawn = draw_result(result, plots)
    files = {
        "out": str(out) if out else None,
        "scores": str(scores) if scores else None,
        "plots": [str(path) for path in drawn],
    }
    typer.echo(json.dumps({**summary(result), **files}))


def _compare(paths: Sequence[str], *, out: Path | None) -> None:
    from training.evaluation.comparison import compare, comparison_document, comparison_summary
    from training.evaluation.report_tables import comparison_table
    from training.evaluation.results import write_document
    from training.evaluation.stored_results import read_result

    if len(paths) != 2:
        raise EvaluationError(f"--compare takes two result files, found {len(paths)}")
    first, second = (read_result(Path(path)) for path in paths)
    _require_places(out, None)
    content = comparison_document(first, second, compared := compare(first, second))
    if out is not None:
        write_document(out, content)
    is_same = bool(content["is_same_protocol"])
    for line in comparison_table(compared, first=first.checkpoint, second=second.checkpoint, is_same_protocol=is_same):
        typer.echo(line)
    typer.echo(json.dumps(comparison_summary(content)))


def _one_each(files: Sequence[Path | None], num_lists: int) -> Sequence[Path | None]:
    if len(files) not in (1, num_lists):
        raise EvaluationError(f"--classes: one file, or one for each of {num_lists} lists, found {len(files)}")
    return list(files) * num_lists if len(files) == 1 else files


def _lines(file: Path | None) -> list[str]:
    """Lines of a text file that hold something."""
    if file is None:
        return []
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{file} cannot be read: {error}") from error
    if not any(lines):
        raise EvaluationError(f"{file}: there is no template in it")
    return [line for line in lines if line]
