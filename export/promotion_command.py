"""`python -m export promote`: activate a candidate on a running server if it is not worse by more than a margin."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from export import promotion
from export.promotion import PromotionDecision, PromotionRefused
from serve.cli.calls import ApiRequest, Server
from serve.client.address import DEFAULT_SERVER
from serve.repository import find_contract

ACTIVATION_SECONDS = 300  # time the server may take to load the candidate


def promote(
    candidate: Annotated[str, typer.Argument(help="NAME (newest version) or NAME@VERSION.")],
    clips: Annotated[Path, typer.Option(help="CSV file with the columns file and label.", exists=True, dir_okay=False)],
    server: Server = DEFAULT_SERVER,
    against: Annotated[
        str | None, typer.Option(help="Version to compare with; default: the server's default model.")
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Largest acceptable decrease of top-1, which determines the required number of independent clips: "
            "381 for 0.01, 73 for 0.05, 35 for 0.1.",
        ),
    ] = 0.01,
    alias: Annotated[str | None, typer.Option(help="Alias to move to the candidate, e.g. default.")] = None,
    repository: Annotated[Path, typer.Option(help="Model repository.")] = Path("model_repository"),
    record: Annotated[Path, typer.Option(help="File to which decisions are appended.")] = Path("runs/promotions.jsonl"),
    dry_run: Annotated[bool, typer.Option(help="Decide and record, but activate nothing.")] = False,
) -> None:
    """Compare a candidate with the active version on labelled clips; activate it if it is not worse by the margin."""
    contract = find_contract(repository, candidate)
    labelled_clips, labels = promotion.read_clips(clips)
    active = against or str(_request(server, "GET", "/v1/models", {}, "default")["default"])
    decision = promotion.compare(
        repository, contract, find_contract(repository, active), clips=labelled_clips, labels=labels, margin=margin
    )
    promotion.record(decision, record)
    typer.echo(_describe(decision))
    if not decision.is_promoted:
        raise PromotionRefused(
            f"{decision.candidate} may be worse than {decision.active} by up to {-decision.interval[0]:.3f}, "
            f"which exceeds the margin of {margin:g}; more clips make the interval narrower"
        )
    if dry_run:
        return
    body = {"version": contract.version, **({"alias": alias} if alias else {})}
    result = _request(server, "POST", f"/v1/models/{contract.name}:activate", body, "active", "default")
    typer.echo(f"active: {', '.join(result['active'])}; default: {result['default']}")


def _request(server: str, method: str, path: str, body: dict[str, Any], *fields: str) -> dict[str, Any]:
    """Send a request; return the JSON response, which must contain the fields.

    Raises:
        ActserveError: the server does not respond, or responds with a problem.
    """
    headers = {"Content-Type": "application/json", "Prefer": f"wait={ACTIVATION_SECONDS}"}
    return ApiRequest(
        method=method, url=server + path, headers=headers, body=json.dumps(body).encode() if body else None
    ).send_for_json(*fields)


def _describe(decision: PromotionDecision) -> str:
    low, high = decision.interval
    return (
        f"{decision.num_clips} clips, {decision.num_independent} independent ({decision.num_needed} needed), "
        f"{decision.num_labels} labels\n"
        f"  {decision.candidate:<24} top-1 {decision.candidate_top1:.3f}, "
        f"correct where the other is wrong: {decision.num_gained}\n"
        f"  {decision.active:<24} top-1 {decision.active_top1:.3f}, "
        f"correct where the other is wrong: {decision.num_lost}\n"
        f"  difference {decision.difference:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}; "
        f"margin {decision.margin:g}: {'promoted' if decision.is_promoted else 'refused'}\n"
        f"  power: this list promotes an equally good candidate in {decision.power:.0%} of cases"
    )
