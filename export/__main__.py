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

from serve.exit_status import exit_without

if __name__ == "__main__":  # the imports below need it
    exit_without("export", needed_by="python -m export")

from export.contract import Weights
from export.errors import ExportInputError
from export.exporter import ExportResult, export_checkpoint
from export.loading import from_file, from_open_clip_file, from_published, override, tokenizer_bytes
from export.parity_gate import RuntimeParity
from export.promotion_command import promote
from export.publication import Accelerator, check_name
from export.trt.commands import tensorrt
from export.verification import verify_version
from serve.cli.parameters import Version, check_variables
from serve.exit_status import run_app
from training.checkpoints.downloads import DEFAULT_CACHE
from training.checkpoints.open_clip_weights import fetch_tokenizer, only_tag
from training.checkpoints.overrides import ASSUMED_FRAMES, Overrides
from training.checkpoints.published_weights import Activation, published_tags
from training.errors import InputError, WorkError

DEFAULT_REPOSITORY = Path("model_repository")

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Turn checkpoints into served models.")


@app.callback()
def export(version: Version = False) -> None:
    """Turn checkpoints into served models."""
    check_variables()


app.command()(tensorrt)
app.command()(promote)

Repository = Annotated[Path, typer.Option(help="Folder of the served models.")]
Templates = Annotated[
    list[str] | None, typer.Option(help="Prompt template with one {}; repeat for several. Replaces the model's own.")
]
TokenizerOption = Annotated[
    Path | None, typer.Option("--tokenizer", help="tokenizer.json, for models whose tokenizer is not CLIP's.")
]
WeightsOption = Annotated[
    Weights, typer.Option(help="Data type that matrices are stored in; computation is in fp32 either way.")
]
AcceleratorOption = Annotated[
    Accelerator, typer.Option(help="tensorrt: Triton's onnxruntime backend makes fp16 engines; needs a GPU.")
]
MaxFileMib = Annotated[
    int | None, typer.Option(min=1, help="Start another weight file beyond this size; default: one file.")
]
PreprocessTag = Annotated[
    str | None,
    typer.Option(help="Pretrained tag of open_clip that the weights derive from; gives preprocessing and activation."),
]
ActivationOption = Annotated[
    Activation | None,
    typer.Option(help="Activation of CLIP's towers, if neither the file nor its origin determines it."),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(help="Key of the weights if the file holds several, e.g. model and model_ema (the default)."),
]
Cache = Annotated[Path, typer.Option(help="Folder that caches downloads.", file_okay=False)]
Heads = Annotated[int | None, typer.Option(min=1, help="Number of attention heads; default: width / 64.")]
# X-CLIP's messages and prompts would be random: such weights can start training, but cannot be served
ServableFamily = Literal["clip", "actionclip"]


@app.command()
def model(
    arch: Annotated[str | None, typer.Option(help="Name of an open_clip architecture.")] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="A pretrained tag of open_clip (downloaded if not cached), or a file of weights."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint of `python -m training train`, instead of --arch.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name to serve it under; default: --arch.")] = None,
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
    """Export an open_clip model, or a checkpoint trained here."""
    served_name = name or arch
    if served_name is None:
        raise ExportInputError("--checkpoint needs --name" if checkpoint else "give either --arch or --checkpoint")
    check_name(served_name)
    of_files = {"preprocess_tag": preprocess_tag, "activation": activation, "weights_key": weights_key}
    if arch is not None and checkpoint is None:
        tag = only_tag(arch) if pretrained is None else pretrained
        if tag in published_tags(arch):
            _refuse_given(of_files, f"for a file of weights, but {tag!r} is a pretrained tag")
            tokenizer = tokenizer or fetch_tokenizer(arch, cache=cache)
            source = from_published(arch, tag, num_frames=num_frames or ASSUMED_FRAMES, cache=cache)
        else:
            source = from_open_clip_file(
                arch,
                Path(tag),
                num_frames=num_frames or ASSUMED_FRAMES,
                preprocess_tag=preprocess_tag,
                activation=activation,
                weights_key=weights_key,
            )
    elif checkpoint is not None and arch is None:
        of_weights = {"pretrained": pretrained, "num_frames": num_frames, **of_files}
        _refuse_given(of_weights, "only for weights of --arch; a --checkpoint holds it")
        source = from_file(checkpoint)
    else:
        raise ExportInputError("give either --arch, with --pretrained where it has several tags, or --checkpoint")
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


def _refuse_given(options: Mapping[str, Any], why: str) -> None:
    if given := [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]:
        raise ExportInputError(f"{', '.join(given)}: {why}")


@app.command()
def import_checkpoint(
    source: Annotated[
        str,
        typer.Argument(
            help="File, folder or http(s) address of a file: ActionCLIP, X-CLIP, Hugging Face X-CLIP, CLIP, ours."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name to serve it under.")],
    repository: Repository = DEFAULT_REPOSITORY,
    templates: Templates = None,
    tokenizer: TokenizerOption = None,
    weights: WeightsOption = "fp32",
    accelerator: AcceleratorOption = "none",
    max_file_mib: MaxFileMib = None,
    num_frames: Annotated[
        int | None, typer.Option(min=1, max=256, help="Frames per clip, if the file does not specify it.")
    ] = None,
    family: Annotated[
        ServableFamily | None, typer.Option(help="Model family for plain CLIP weights; default: clip.")
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="open_clip architecture of weights that are not a plain CLIP ViT.")
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
    """Export a published checkpoint."""
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
    checkpoint = from_file(source, overrides, cache=cache)
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
    """Check the hashes and the parity of a version on this machine."""
    found = verify_version(repository, name, version=version)
    print(f"{found.contract.name}@{found.contract.version}: {len(found.contract.files())} files as the contract says")
    _print_parity(found.parity)


def _export(
    source: Any,
    *,
    name: str,
    repository: Path,
    templates: list[str] | None,
    tokenizer: Path | None,
    weights: Weights,
    accelerator: Accelerator,
    max_file_mib: int | None,
) -> None:
    checkpoint = override(source, templates=templates, tokenizer=tokenizer)
    exported = export_checkpoint(
        checkpoint,
        tokenizer_bytes(checkpoint, tokenizer),
        name=name,
        repository=repository,
        weights=weights,
        accelerator=accelerator,
        max_file_bytes=None if max_file_mib is None else max_file_mib << 20,
    )
    _print_exported(exported)


def _print_exported(exported: ExportResult) -> None:
    contract, seconds = exported.contract, exported.seconds
    print(f"{contract.name}@{contract.version}: {exported.num_bytes / 2**20:.1f} MiB in {seconds['total']:.1f} s")
    print("  " + ", ".join(f"{key} {value:.1f} s" for key, value in seconds.items() if key != "total"))
    _print_source(contract.provenance)
    _print_parity(exported.parity)
    print(f"  {exported.contract_file}")


def _print_source(provenance: Mapping[str, Any]) -> None:
    """Print what was decided about a weight file beyond its tensors."""
    if "activation" in provenance:
        print("  activation {value}: {source}".format(**provenance["activation"]))
    if "other_weights" in provenance:
        others = ", ".join(key or "the top level" for key in provenance["other_weights"])
        print(f"  weights of {provenance['weights_key'] or 'the top level'}; the file also holds those of {others}")


def _print_parity(parity: dict[str, RuntimeParity] | Any) -> None:
    print(f"  {'runtime':<18}{'array':<17}{'relative':>10}{'largest':>11}{'cosine':>10}{'other top-1':>13}")
    for label, item in parity.items():
        verdict = "" if item.is_passed else "  failed: do not serve this model with this runtime"
        if item.failure:
            print(f"  {label:<18}{item.failure.splitlines()[0]}{verdict}")
        for array, figures in item.arrays.items():
            print(
                f"  {label:<18}{array:<17}{figures.relative_difference:>10.1e}{figures.largest_difference:>11.1e}"
                f"{figures.lowest_cosine:>10.6f}{item.top1_disagreements:>13}{verdict}"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in ("export", "training.checkpoints.downloads"):
        logging.getLogger(name).setLevel(logging.INFO)
    run_app(app, arguments, name="python -m export", unusable=(InputError,), failed=(WorkError,))


if __name__ == "__main__":
    main()
