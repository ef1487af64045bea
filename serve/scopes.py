"""Scopes of API keys, and the scope that each route requires."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """A permission of a key."""

    READ = "read"  # vocabularies, models, limits, metrics
    INFER = "infer"  # classification, timelines, embeddings, jobs, stored videos, search, feedback
    EDIT = "edit"  # vocabularies, examples, calibration
    ADMIN = "admin"  # activation of models, and access to resources of other keys


IMPLIED_SCOPES: dict[Scope, frozenset[Scope]] = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.INFER: frozenset({Scope.INFER, Scope.READ}),
    Scope.EDIT: frozenset({Scope.EDIT, Scope.READ}),
    Scope.ADMIN: frozenset(Scope),
}
OPEN = None  # the route needs no key
ROUTE_SCOPES: dict[tuple[str, str], Scope | None] = {
    ("GET", "/"): OPEN,
    ("GET", "/docs"): OPEN,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/v2/health/live"): OPEN,
    ("GET", "/v2/health/ready"): OPEN,
    ("GET", "/metrics"): Scope.READ,
    ("GET", "/v1/limits"): Scope.READ,
    ("GET", "/v1/models"): Scope.READ,
    ("POST", "/v1/models/{name}:activate"): Scope.ADMIN,
    ("POST", "/v1/models/{name}:rollback"): Scope.ADMIN,
    ("POST", "/v1/classify"): Scope.INFER,
    ("POST", "/v1/timeline"): Scope.INFER,
    ("POST", "/v1/embeddings"): Scope.INFER,
    ("POST", "/v1/jobs"): Scope.INFER,
    ("GET", "/v1/jobs"): Scope.INFER,
    ("GET", "/v1/jobs/{job_id}"): Scope.INFER,
    ("DELETE", "/v1/jobs/{job_id}"): Scope.INFER,
    ("GET", "/v1/jobs/{job_id}/output"): Scope.INFER,
    ("GET", "/v1/jobs/{job_id}/errors"): Scope.INFER,
    ("GET", "/v1/jobs/{job_id}/events"): Scope.INFER,
    ("GET", "/v1/videos"): Scope.INFER,
    ("GET", "/v1/videos/{video_id}"): Scope.INFER,
    ("DELETE", "/v1/videos/{video_id}"): Scope.INFER,
    ("POST", "/v1/videos/{video_id}:classify"): Scope.INFER,
    ("POST", "/v1/videos/{video_id}:timeline"): Scope.INFER,
    ("POST", "/v1/videos:classify"): Scope.INFER,
    ("GET", "/v1/search"): Scope.INFER,
    ("POST", "/v1/search"): Scope.INFER,
    ("POST", "/v1/feedback"): Scope.INFER,
    ("GET", "/v1/feedback"): Scope.INFER,
    ("DELETE", "/v1/feedback/{feedback_id}"): Scope.INFER,
    ("GET", "/v1/vocabularies"): Scope.READ,
    ("GET", "/v1/vocabularies/{name}"): Scope.READ,
    ("GET", "/v1/vocabularies/{name}/versions"): Scope.READ,
    ("GET", "/v1/vocabularies/{name}:diff"): Scope.READ,
    ("GET", "/v1/vocabularies/{name}:export"): Scope.READ,
    ("PUT", "/v1/vocabularies/{name}"): Scope.EDIT,
    ("PATCH", "/v1/vocabularies/{name}"): Scope.EDIT,
    ("DELETE", "/v1/vocabularies/{name}"): Scope.EDIT,
    ("POST", "/v1/vocabularies/{name}:rollback"): Scope.EDIT,
    ("POST", "/v1/vocabularies/{name}:calibrate"): Scope.EDIT,
    ("GET", "/v1/vocabularies/{name}/labels/{label_id}/examples"): Scope.READ,
    ("POST", "/v1/vocabularies/{name}/labels/{label_id}/examples"): Scope.EDIT,
    ("DELETE", "/v1/vocabularies/{name}/labels/{label_id}/examples"): Scope.EDIT,
    ("DELETE", "/v1/vocabularies/{name}/labels/{label_id}/examples/{example_id}"): Scope.EDIT,
    ("GET", "/v2"): Scope.READ,
    ("GET", "/v2/models/{name}"): Scope.READ,
    ("GET", "/v2/models/{name}/ready"): Scope.READ,
    ("POST", "/v2/models/{name}/infer"): Scope.INFER,
    ("GET", "/v2/models/{name}/versions/{version}"): Scope.READ,
    ("GET", "/v2/models/{name}/versions/{version}/ready"): Scope.READ,
    ("POST", "/v2/models/{name}/versions/{version}/infer"): Scope.INFER,
}


def satisfies(granted: Iterable[Scope], required: Scope) -> bool:
    """Return whether granted scopes contain the required one, directly or by implication.

    >>> satisfies([Scope.EDIT], Scope.READ), satisfies([Scope.EDIT], Scope.INFER), satisfies([Scope.ADMIN], Scope.INFER)
    (True, False, True)
    """
    return any(required in IMPLIED_SCOPES[scope] for scope in granted)
