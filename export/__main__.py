"""The command line of export.

python -m export model --arch PE-Core-B-16
python -m export model --checkpoint runs/demo/checkpoint.pt --name demo --weights fp16
python -m export import-checkpoint k400_vitb16.pth --name xclip-b16
python -m export import-checkpoint https://example.com/k400_vitb16.pth --name xclip-b16
python -m export verify demo
python -m export tensorrt demo
python -m export promote demo@2 --clips held_out.csv
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from serve.exit_status import exit_if_missing_extra

if __name__ == "__main__":  # the imports below need the extra `export`
    exit_if_missing_extra("export", needed_by="python -m export")

from export.contract import Weights
from export.errors import ExportInputError
from export.exporter import ExportResult, export_checkpoint
from export.loading import apply_options, load_open_clip_file, load_published, load_source, read_tokenizer
from export.parity_gate import RuntimeParity
from export.promotion_command import promote
from export.publication import Accelerator, check_name
from export.trt.commands import tensorrt
from export.verification import verify_version
from serve.cli.parameters import Version, check_variables
from serve.exit_status import run_app
from training.checkpoints.downloads import DEFAULT_CACHE
from training.checkpoints.native_format import Checkpoint
from training.checkpoints.open_clip_weights import fetch_tokenizer, single_tag
from training.checkpoints.overrides import ASSUMED_FRAMES, Overrides
from training.checkpoints.published_weights import Activation, published_tags
from training.errors import InputError, WorkError

DEFAULT_REPOSITORY = Path("model_repository")

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Export checkpoints to a model repository.")


@app.callback()
def export(version: Version = False) -> None:
    """Export checkpoints to a model repository."""
    check_variables()


app.command()(tensorrt)
app.command()(promote)

Repository = Annotated[Path, typer.Option(help="Model repository.")]
Templates = Annotated[
    list[str] | None, typer.Option(help="Prompt template with one {}; may be repeated. Default: the model's templates.")
]
TokenizerOption = Annotated[
    Path | None, typer.Option("--tokenizer", help="tokenizer.json, for models that do not use CLIP's tokenizer.")
]
WeightsOption = Annotated[
    Weights, typer.Option(help="Data type in which matrices are stored; computation is always in fp32.")
]
AcceleratorOption = Annotated[
    Accelerator, typer.Option(help="tensorrt: Triton's onnxruntime backend builds fp16 engines; requires a GPU.")
]
MaxFileMib = Annotated[
    int | None,
    typer.Option(min=1, help="Maximum size of a weight file; weights beyond it go to another file. Default: one file."),
]
PreprocessTag = Annotated[
    str | None,
    typer.Option(help="open_clip's pretrained tag of the original weights; determines preprocessing and activation."),
]
ActivationOption = Annotated[
    Activation | None,
    typer.Option(help="Activation of the CLIP towers, if it cannot be determined from the file."),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(help="Key of the weights, if the file contains several, e.g. model and model_ema (the default)."),
]
Cache = Annotated[Path, typer.Option(help="Folder that caches downloads.", file_okay=False)]
Heads = Annotated[int | None, typer.Option(min=1, help="Number of attention heads; default: width / 64.")]
# X-CLIP is missing: with plain CLIP weights, its messages and prompts would be random
ServableFamily = Literal["clip", "actionclip"]


@app.command()
def model(
    arch: Annotated[str | None, typer.Option(help="Name of an open_clip architecture.")] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="open_clip's pretrained tag (downloaded if not cached), or a weight file."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint of `python -m training train`, instead of --arch.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the served model; default: --arch.")] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    num_frames: Annotated[
        int | None, typer.Option(min=1, max=256, help="Frames per clip, with --arch; default: 8.")
    ] = None,
    preprocess_tag: PreprocessTag = None,
    activation: ActivationOption = None,
    weights_key: WeightsKey = None,
    templates: Templates = None,
    tokenizer: TokenizerOption = None,
    weights: WeightsOption = "fp32",
    accelerator: AcceleratorOption = "none",
    max_file_mib: MaxFileMib = None,
    cache: Cache = DEFAULT_CACHE,
) -> None:
    """Export an open_clip model or a checkpoint of `python -m training train`."""
    served_name = name or arch
    if served_name is None:
        raise ExportInputError("--checkpoint requires --name" if checkpoint else "give either --arch or --checkpoint")
    check_name(served_name)
    file_options = {"preprocess_tag": preprocess_tag, "activation": activation, "weights_key": weights_key}
    if arch is not None and checkpoint is None:
        tag = single_tag(arch) if pretrained is None else pretrained
        if tag in published_tags(arch):
            _reject_options(file_options, f"only for weight files, but {tag!r} is a pretrained tag")
            tokenizer = tokenizer or fetch_tokenizer(arch, cache=cache)
            source = load_published(arch, tag, num_frames=num_frames or ASSUMED_FRAMES, cache=cache)
        else:
            source = load_open_clip_file(
                arch,
                Path(tag),
                num_frames=num_frames or ASSUMED_FRAMES,
                preprocess_tag=preprocess_tag,
                activation=activation,
                weights_key=weights_key,
            )
    elif checkpoint is not None and arch is None:
        weight_options = {"pretrained": pretrained, "num_frames": num_frames, **file_options}
        _reject_options(weight_options, "only with --arch; a --checkpoint contains these values")
        source = load_source(checkpoint)
    else:
        raise ExportInputError("give either --arch (with --pretrained, if it has several tags) or --checkpoint")
    _export(
        source,
        name=served_name,
        repository=repository,
        templates=templates,
        tokenizer=tokenizer,
        weights=weights,
        accelerator=accelerator,
        max_file_mib=max_file_mib,
    )


def _reject_options(options: Mapping[str, Any], reason: str) -> None:
    """Raise if any of the options is set."""
    if given := [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]:
        raise ExportInputError(f"{', '.join(given)}: {reason}")


@app.command()
def import_checkpoint(
    source: Annotated[
        str,
        typer.Argument(help="File, folder, or URL of a file: ActionCLIP, X-CLIP, CLIP, or a native checkpoint."),
    ],
    name: Annotated[str, typer.Option(help="Name of the served model.")],
    repository: Repository = DEFAULT_REPOSITORY,
    templates: Templates = None,
    tokenizer: TokenizerOption = None,
    weights: WeightsOption = "fp32",
    accelerator: AcceleratorOption = "none",
    max_file_mib: MaxFileMib = None,
    num_frames: Annotated[
        int | None, typer.Option(min=1, max=256, help="Frames per clip, if the file does not contain the number.")
    ] = None,
    family: Annotated[
        ServableFamily | None, typer.Option(help="Model family for plain CLIP weights; default: clip.")
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="open_clip architecture, for weights that are not of a plain CLIP ViT.")
    ] = None,
    preprocess_tag: PreprocessTag = None,
    activation: ActivationOption = None,
    weights_key: WeightsKey = None,
    vision_heads: Heads = None,
    text_heads: Heads = None,
    fusion_heads: Heads = None,
    mit_heads: Heads = None,
    prompt_heads: Heads = None,
    cache: Cache = DEFAULT_CACHE,
) -> None:
    """Convert and export a published checkpoint."""
    check_name(name)
    overrides = Overrides(
        num_frames=num_frames,
        family=family,
        arch=arch,
        tag=preprocess_tag,
        activation=activation,
        weights_key=weights_key,
        vision_heads=vision_heads,
        text_heads=text_heads,
        fusion={"heads": fusion_heads} if fusion_heads else None,
        mit_heads=mit_heads,
        prompt_heads=prompt_heads,
    )
    checkpoint = load_source(source, overrides, cache=cache)
    _export(
        checkpoint,
        name=name,
        repository=repository,
        templates=templates,
        tokenizer=tokenizer,
        weights=weights,
        accelerator=accelerator,
        max_file_mib=max_file_mib,
    )


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="Name of a served model.")],
    version: Annotated[int | None, typer.Option(min=1, help="Version; default: the newest.")] = None,
    repository: Repository = DEFAULT_REPOSITORY,
) -> None:
    """Check the files and the parity of a version on this machine."""
    result = verify_version(repository, name, version=version)
    contract = result.contract
    print(f"{contract.name}@{contract.version}: {len(contract.file_hashes())} files match the contract")
    _print_parity(result.parity)


def _export(
    checkpoint: Checkpoint,
    *,
    name: str,
    repository: Path,
    templates: list[str] | None,
    tokenizer: Path | None,
    weights: Weights,
    accelerator: Accelerator,
    max_file_mib: int | None,
) -> None:
    checkpoint = apply_options(checkpoint, templates=templates, tokenizer=tokenizer)
    exported = export_checkpoint(
        checkpoint,
        read_tokenizer(checkpoint, tokenizer),
        name=name,
        repository=repository,
        weights=weights,
        accelerator=accelerator,
        max_file_bytes=None if max_file_mib is None else max_file_mib << 20,
    )
    _print_result(exported)


def _print_result(result: ExportResult) -> None:
    contract, seconds = result.contract, result.seconds
    print(f"{contract.name}@{contract.version}: {result.num_bytes / 2**20:.1f} MiB in {seconds['total']:.1f} s")
    print("  " + ", ".join(f"{key} {value:.1f} s" for key, value in seconds.items() if key != "total"))
    _print_source(contract.provenance)
    _print_parity(result.parity)
    print(f"  {result.contract_file}")


def _print_source(provenance: Mapping[str, Any]) -> None:
    """Print how the activation and the state dict of a weight file were determined."""
    if "activation" in provenance:
        print("  activation {value}: {source}".format(**provenance["activation"]))
    if "other_weights" in provenance:
        others = ", ".join(key or "the top level" for key in provenance["other_weights"])
        key = provenance["weights_key"] or "the top level"
        print(f"  weights from {key}; the file also contains weights in {others}")


def _print_parity(parity: dict[str, RuntimeParity] | Any) -> None:
    print(f"  {'runtime':<18}{'array':<17}{'relative':>10}{'largest':>11}{'cosine':>10}{'other top-1':>13}")
    for label, item in parity.items():
        verdict = "" if item.is_passed else "  failed; do not serve this model with this runtime"
        if item.failure:
            print(f"  {label:<18}{item.failure.splitlines()[0]}{verdict}")
        for array, difference in item.arrays.items():
            print(
                f"  {label:<18}{array:<17}{difference.relative_difference:>10.1e}{difference.largest_difference:>11.1e}"
                f"{difference.lowest_cosine:>10.6f}{item.top1_disagreements:>13}{verdict}"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in ("export", "training.checkpoints.downloads"):
        logging.getLogger(name).setLevel(logging.INFO)
    run_app(app, arguments, name="python -m export", input_errors=(InputError,), runtime_errors=(WorkError,))


if __name__ == "__main__":
    main()
