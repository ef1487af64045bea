"""`python -m export tensorrt`: build TensorRT plans for a published version."""

from pathlib import Path
from typing import Annotated

import typer

from export.triton_config import MAX_TEXT_BATCH, MAX_VIDEO_BATCH
from export.trt.building import Precision
from export.trt.engines import build_engines, check_engines, make_targets, write_configs
from export.trt.sidecar import Sidecar
from serve.repository import ModelReference, find_contract


def tensorrt(
    name: Annotated[str, typer.Argument(help="Name of a published model.")],
    version: Annotated[int | None, typer.Option(min=1, help="Version; default: the newest.")] = None,
    repository: Annotated[Path, typer.Option(help="Model repository.")] = Path("model_repository"),
    precision: Annotated[
        Precision, typer.Option(help="With fp16, normalisations and reductions stay in fp32.")
    ] = "fp16",
    max_views: Annotated[int, typer.Option(min=1, max=1024, help="Maximum number of views per run.")] = MAX_VIDEO_BATCH,
    max_prompts: Annotated[
        int, typer.Option(min=1, max=65536, help="Maximum number of prompts per run.")
    ] = MAX_TEXT_BATCH,
    check: Annotated[bool, typer.Option(help="Only check that the plans exist and can run on this machine.")] = False,
    rebuild: Annotated[bool, typer.Option(help="Replace existing plans.")] = False,
) -> None:
    """Build model.plan from each ONNX file on this machine's GPU, and write configs/tensorrt.pbtxt to serve it."""
    contract = find_contract(repository, ModelReference(name, version))
    engine_targets = list(make_targets(repository, contract, max_views=max_views, max_prompts=max_prompts))
    if check:
        _print(check_engines(engine_targets), [str(target.plan) for target in engine_targets])
        return
    for path in write_configs(repository, name, engine_targets):
        print(f"wrote {path}")
    sidecars = build_engines(repository, contract, engine_targets, precision=precision, rebuild=rebuild)
    _print(sidecars, [str(target.plan) for target in engine_targets])


def _print(sidecars: list[Sidecar], plans: list[str]) -> None:
    for plan, item in zip(plans, sidecars, strict=True):
        parity = ", ".join(f"{name} cosine {values['lowest_cosine']:.5f}" for name, values in item.parity.items())
        print(f"{plan}: {item.precision}, {item.machine.gpu}, TensorRT {item.machine.tensorrt}, {parity}")
