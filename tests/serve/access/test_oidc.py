"""Tokens of an OpenID Connect provider: which are accepted, what they allow, and keys that change or cannot be had."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from serve.access import oidc
from serve.access.oidc import TokenVerifier, is_token
from serve.auth_settings import OidcSettings
from serve.errors import ProviderUnavailable, Unauthenticated
from serve.scopes import Scope
from serve.settings import ServeSettings
from tests.running_server import RunningServer, running_server
from tests.serve.access.provider import AUDIENCE, Provider, make_key, running_provider
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


@pytest.fixture
def verifier(provider: Provider) -> TokenVerifier:
    return TokenVerifier(OidcSettings(issuer=provider.issuer, audience=AUDIENCE))


def encode(document: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


async def test_a_valid_token_has_an_owner_a_name_and_scopes(provider: Provider, verifier: TokenVerifier) -> None:
    first = await verifier.verify(provider.token(scope="openid infer edit unknown"))
    assert first.scopes == (Scope.EDIT, Scope.INFER)
    assert first.name == "someone"
    assert len(first.subject_id) == 12
    assert (await verifier.verify(provider.token())).subject_id == first.subject_id
    assert (await verifier.verify(provider.token(sub="other"))).subject_id != first.subject_id
    assert provider.requests["/keys"] == 1


@pytest.mark.parametrize("missing", ["exp", "iat", "iss", "aud", "sub"])
async def test_a_token_without_a_required_claim_is_refused(
    missing: str, provider: Provider, verifier: TokenVerifier
) -> None:
    with pytest.raises(Unauthenticated, match=missing):
        await verifier.verify(provider.token(**{missing: None}))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example"}, {"aud": "other"}, {"aud": ["other", "another"]}, {"exp": 1_000_000_000},
        {"nbf": 4_000_000_000}, {"iat": 4_000_000_000}, {"sub": ""}, {"sub": 5}, {"exp": "soon"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_token_for_others_or_another_time_is_refused(
    changes: dict[str, object], provider: Provider, verifier: TokenVerifier
) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(provider.token(**changes))


async def test_forged_tokens_are_refused(provider: Provider, verifier: TokenVerifier) -> None:
    valid = provider.token()
    header, claims, signature = valid.split(".")
    public = provider.keys["first"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    shared = encode({"alg": "HS256", "kid": "first"}) + "." + claims
    mac = base64.urlsafe_b64encode(hmac.digest(public, shared.encode(), hashlib.sha256)).rstrip(b"=").decode()
    forged = [
        f"{header}.{encode({'sub': 'someone', 'scope': 'admin'})}.{signature}",
        f"{encode({'alg': 'none', 'kid': 'first'})}.{claims}.AA",
        f"{shared}.{mac}",  # the public key as a shared secret
        provider.token(key=make_key()),
        f"{encode({'alg': 'RS256', 'kid': 5})}.{claims}.{signature}",
        f"{encode({'alg': 'RS256', 'kid': 'first', 'crit': ['x']})}.{claims}.{signature}",
        "a.b.c",
        f"{header}.{claims}.{signature[:-8]}",
    ]
    for token in forged:
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)
    assert (await verifier.verify(valid)).name == "someone"


async def test_new_keys_are_fetched_when_a_token_has_one_but_not_for_every_forged_one(
    provider: Provider, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    await verifier.verify(provider.token())
    provider.keys["second"] = make_key()
    with pytest.raises(Unauthenticated, match="no key"):  # too soon after the last attempt
        await verifier.verify(provider.token(key_id="second"))
    assert provider.requests["/keys"] == 1
    monkeypatch.setattr(oidc, "RETRY_SECONDS", 0.0)
    assert (await verifier.verify(provider.token(key_id="second"))).name == "someone"
    del provider.keys["first"]
    monkeypatch.setattr(oidc, "FRESH_SECONDS", 0.0)
    old = make_key()
    with pytest.raises(Unauthenticated, match="no key"):
        await verifier.verify(provider.token(key_id="first", key=old))


async def test_a_token_without_key_id_is_signed_with_the_only_key(
    provider: Provider, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = provider.keys["first"]
    assert (await verifier.verify(provider.token(key_id=None, key=key))).name == "someone"
    provider.keys["second"] = make_key()
    monkeypatch.setattr(oidc, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(oidc, "RETRY_SECONDS", 0.0)
    with pytest.raises(Unauthenticated, match="no key"):
        await verifier.verify(provider.token(key_id=None, key=key))


async def test_a_provider_that_does_not_respond_is_no_fault_of_the_token(
    provider: Provider, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = provider.token()
    provider.is_down = True
    with pytest.raises(ProviderUnavailable):
        await verifier.verify(token)
    assert not verifier.is_provider_available
    monkeypatch.setattr(oidc, "RETRY_SECONDS", 0.0)
    provider.is_down = False
    await verifier.verify(token)
    assert verifier.is_provider_available
    provider.is_down = True
    monkeypatch.setattr(oidc, "FRESH_SECONDS", 0.0)
    await verifier.verify(token)  # with the last keys
    assert not verifier.is_provider_available
    monkeypatch.setattr(oidc, "STALE_SECONDS", 0.0)
    with pytest.raises(ProviderUnavailable):
        await verifier.verify(token)


async def test_a_provider_of_another_name_is_not_believed(provider: Provider, verifier: TokenVerifier) -> None:
    provider.named_issuer = "https://other.example"
    with pytest.raises(ProviderUnavailable):
        await verifier.verify(provider.token())
    assert provider.requests["/keys"] == 0


async def test_claims_are_mapped_and_names_are_shown_without_signs(provider: Provider) -> None:
    settings = OidcSettings(
        issuer=provider.issuer, audience=AUDIENCE, scope_claim="roles", name_claim="email",
        scopes={"video users": Scope.INFER, "root": Scope.ADMIN},
    )  # fmt: skip
    verifier = TokenVerifier(settings)
    token = provider.token(scope="admin", roles=["video users", 5, "x"], email="\u202ea b@c.example\n")
    identity = await verifier.verify(token)
    assert identity.scopes == (Scope.INFER,)
    assert identity.name == "a-b@c.example"
    nameless = await verifier.verify(provider.token(email={"a": 1}, roles=None))
    assert nameless.scopes == () and nameless.name == nameless.subject_id


@pytest.mark.parametrize(
    "values",
    [
        {"issuer": "https://id.example"}, {"audience": "a"}, {"scope_claim": "roles"},
        {"issuer": "http://id.example", "audience": "a"}, {"issuer": "https://id.example/?a", "audience": "a"},
        {"issuer": "https://user@id.example", "audience": "a"}, {"issuer": "id.example", "audience": "a"},
        {"issuer": "https://id.example", "audience": "a", "scopes": {"x": "root"}},
        {"issuer": "https://id.example", "audience": "a", "scopes": {}},
    ],
    ids=str,
)  # fmt: skip
def test_settings_without_effect_or_trust_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        OidcSettings.model_validate(values)


def test_an_issuer_has_no_effect_without_access_control() -> None:
    with pytest.raises(ValidationError, match="no effect"):
        ServeSettings.model_validate(
            {"auth": {"mode": "off"}, "oidc": {"issuer": "https://id.example", "audience": "a"}}
        )


def test_keys_are_no_tokens() -> None:
    assert not is_token("as_0123456789ab_" + "a" * 43)
    assert is_token("a.b.c") and not is_token("a.b.c" + "a" * oidc.MAX_TOKEN_CHARS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Provider]]:
    folder: Path = tmp_path_factory.mktemp("oidc")
    with running_provider() as provider:
        variables = {
            "SERVE_OIDC__ISSUER": provider.issuer,
            "SERVE_OIDC__AUDIENCE": AUDIENCE,
            "SERVE_AUTH__MODE": "keys",
        }
        with running_server(folder, **variables) as server:  # it starts without any key
            yield server, provider


def test_a_server_takes_tokens_by_their_scopes(served: tuple[RunningServer, Provider], demo_clip: Path) -> None:
    server, provider = served
    with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http:

        def headers(**changes: object) -> dict[str, str]:
            return {"Authorization": f"Bearer {provider.token(**changes)}"}

        assert http.get("/v1/models").json()["type"] == "/problems/unauthenticated"
        assert http.get("/v1/models", headers=headers(exp=int(time.time()) - 600)).status_code == 401
        assert http.get("/v1/models", headers=headers(scope="read")).status_code == 200
        assert http.get("/v1/models", headers={"X-API-Key": provider.token()}).status_code == 200
        refused = http.post("/v1/classify", headers=headers(scope="read"), files={"video": demo_clip.read_bytes()})
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
        stored = http.post(
            "/v1/classify", headers=headers(), files={"video": demo_clip.read_bytes()}, data={"store": "true"}
        )
        assert stored.status_code == 200, stored.text
        (video,) = http.get("/v1/videos", headers=headers()).json()["videos"]
        path = f"/v1/videos/{video['video_id']}"
        assert http.get("/v1/videos", headers=headers(sub="other")).json()["videos"] == []
        assert http.delete(path, headers=headers(sub="other")).status_code == 404
        assert http.get(path, headers=headers(sub="other", scope="admin")).status_code == 200
        assert http.delete(path, headers=headers()).status_code == 204
        changed = http.put(
            "/v1/vocabularies/mine", json={"labels": ["a", "b"]},
            headers={**headers(scope="edit", sub="auth0|5"), "If-None-Match": "*"},
        )  # fmt: skip
        assert changed.status_code == 200, changed.text
        (version,) = http.get("/v1/vocabularies/mine/versions", headers=headers(scope="read")).json()["versions"]
        assert version["author"] == "auth0-5"
        assert http.get("/readyz").json()["degraded"] == []
