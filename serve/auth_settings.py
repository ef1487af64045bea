"""Settings of authentication: `SERVE_AUTH__...` and `SERVE_OIDC__...`, groups of `serve.settings.ServeSettings`."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from serve.scopes import Scope


class AuthSettings(BaseModel):
    """Authentication of requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["auto", "keys", "off"] = Field(
        "auto",
        description="keys: every request needs an API key, or a token of SERVE_OIDC__ISSUER. off: no request does. "
        "auto: keys are needed once a key exists or an issuer is set; on a non-loopback address, the server does not "
        "start without either.",
    )


class OidcSettings(BaseModel):
    """Access with bearer tokens of an OpenID Connect provider; they need the extra `oidc`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(
        "",
        description="URL of the provider, exactly as its tokens have it in `iss`; empty: only API keys are accepted.",
    )
    audience: str = Field("", description="Value that the tokens for this server have in `aud`.")
    scope_claim: str = Field(
        "scope", min_length=1, description="Claim with the scopes: text with spaces between them, or a list."
    )
    scopes: Mapping[str, Scope] = Field(
        {scope.value: scope for scope in Scope},
        min_length=1,
        description='Scope of this server for each value of the claim, as JSON, e.g. `{"video-users": "infer"}`; other '
        "values are ignored.",
    )
    name_claim: str = Field(
        "sub", min_length=1, description="Claim with the name of the caller, for logs and authors of changes."
    )
    leeway_seconds: float = Field(
        30.0, ge=0, le=300, description="Tolerated difference between the clocks of the provider and this server."
    )

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, value: str) -> str:
        if value and not is_trusted_url(value):
            raise ValueError("must be an https URL without query; http is allowed on loopback addresses only")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if bool(self.issuer) != bool(self.audience):
            raise ValueError("issuer and audience must be set together")
        if not self.issuer and self.model_fields_set - {"issuer", "audience"}:
            raise ValueError("these settings have no effect without issuer")
        return self


def is_trusted_url(url: str) -> bool:
    """Return whether keys may be fetched from a URL: by https, or by http from this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.query or parts.fragment or parts.username is not None or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
