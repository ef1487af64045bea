"""`python -m export tensorrt NAME`."""

from pathlib import Path
from typing import Annotated

import typer

from export.triton_config import MAX_TEXT_BATCH, MAX_VIDEO_BATCH
from export.trt.building import Precision
from export.trt.engines import build_engines, check_engines, targets, write_variants
from export.trt.sidecar import Sidecar
from serve.repository import ModelReference, find_contract


def tensorrt(
    name: Annotated[str, typer.Argument(help="Name of a served model.")],
    version: Annotated[int | None, typer.Option(min=1, help="Version; default: the newest.")] = None,
    repository: Annotated[Path, typer.Option(help="Folder of the served models.")] = Path("model_repository"),
    precision: Annotated[Precision, typer.Option(help="fp16 keeps normalisations and reductions in fp32.")] = "fp16",
    max_views: Annotated[int, typer.Option(min=1, max=1024, help="Views of one run.")] = MAX_VIDEO_BATCH,
    max_prompts: Annotated[int, typer.Option(min=1, max=65536, help="Prompts of one run.")] = MAX_TEXT_BATCH,
    check: Annotated[
        bool, typer.Option(help="Build nothing; check that the plans exist and fit this machine.")
    ] = False,
    rebuild: Annotated[bool, typer.Option(help="Replace existing plans.")] = False,
) -> None:
    """Build model.plan from each ONNX file on this machine's GPU, and configs/tensorrt.pbtxt to serve them."""
    contract = find_contract(repository, ModelReference(name, version))
    parts = list(targets(repository, contract, max_views=max_views, max_prompts=max_prompts))
    if check:
        _print(check_engines(parts), [str(target.plan) for target in parts])
        return
    for path in write_variants(repository, name, parts):
        print(f"wrote {path}")
    found = build_engines(repository, contract, parts, precision=precision, rebuild=rebuild)
    _print(found, [str(target.plan) for target in parts])


def _print(sidecars: list[Sidecar], plans: list[str]) -> None:
    for plan, item in zip(plans, sidecars, strict=True):
        figures = ", ".join(f"{name} cosine {values['lowest_cosine']:.5f}" for name, values in item.parity.items())
        print(f"{plan}: {item.precision}, {item.machine.gpu}, TensorRT {item.machine.tensorrt}, {figures}")
