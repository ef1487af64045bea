"""`python -m export promote`: activate a candidate on a running server unless it may be worse."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from export import promotion
from export.promotion import PromotionDecision, PromotionRefused
from serve.cli.calls import DEFAULT_SERVER, ApiRequest, Server
from serve.repository import find_contract

ACTIVATION_SECONDS = 300


def promote(
    candidate: Annotated[str, typer.Argument(help="NAME (its newest version) or NAME@VERSION.")],
    clips: Annotated[Path, typer.Option(help="CSV with columns file,label.", exists=True, dir_okay=False)],
    server: Server = DEFAULT_SERVER,
    against: Annotated[
        str | None, typer.Option(help="Version to compare with; default: the server's default model.")
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Loss of top-1 that the 95 % interval may reach. It decides how many independent clips are needed: "
            "381 for 0.01, 73 for 0.05, 35 for 0.1.",
        ),
    ] = 0.01,
    alias: Annotated[
        str | None, typer.Option(help="Alias that refers to the candidate from then on, e.g. default.")
    ] = None,
    repository: Annotated[Path, typer.Option(help="Folder of the served models.")] = Path("model_repository"),
    record: Annotated[Path, typer.Option(help="File to append decisions to.")] = Path("runs/promotions.jsonl"),
    dry_run: Annotated[bool, typer.Option(help="Decide and record; activate nothing.")] = False,
) -> None:
    """Compare a candidate with the active version on labelled clips; activate it unless it may be worse."""
    contract = find_contract(repository, candidate)
    listed, labels = promotion.read_clips(clips)
    running = against or str(_request(server, "GET", "/v1/models", {}, "default")["default"])
    decision = promotion.compare(
        repository, contract, find_contract(repository, running), clips=listed, labels=labels, margin=margin
    )
    promotion.record(decision, record)
    typer.echo(_described(decision))
    if not decision.is_promoted:
        raise PromotionRefused(
            f"{decision.candidate} may be worse than {decision.active} by {-decision.interval[0]:.3f}, "
            f"the margin is {margin:g}; more clips narrow the interval"
        )
    if dry_run:
        return
    wanted = {"version": contract.version, **({"alias": alias} if alias else {})}
    moved = _request(server, "POST", f"/v1/models/{contract.name}:activate", wanted, "active", "default")
    typer.echo(f"active: {', '.join(moved['active'])}; default: {moved['default']}")


def _request(server: str, method: str, path: str, body: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a server's answer that has these fields.

    Raises:
        ActserveError: there is no answer, or the answer is a problem.
    """
    headers = {"Content-Type": "application/json", "Prefer": f"wait={ACTIVATION_SECONDS}"}
    return ApiRequest(
        method=method, url=server + path, headers=headers, body=json.dumps(body).encode() if body else None
    ).answer(*names)


def _described(decision: PromotionDecision) -> str:
    low, high = decision.interval
    return (
        f"{decision.num_clips} clips, {decision.num_independent} independent ({decision.num_needed} needed), "
        f"{decision.num_labels} labels\n"
        f"  {decision.candidate:<24} top-1 {decision.candidate_top1:.3f}, correct alone on {decision.num_gained}\n"
        f"  {decision.active:<24} top-1 {decision.active_top1:.3f}, correct alone on {decision.num_lost}\n"
        f"  difference {decision.difference:+.3f}, with 95 % between {low:+.3f} and {high:+.3f}; "
        f"margin {decision.margin:g}: {'promoted' if decision.is_promoted else 'refused'}\n"
        f"  power: this list promotes an equally good candidate in {decision.power:.0%} of cases"
    )
