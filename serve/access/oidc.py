"""Verify bearer tokens of an OpenID Connect provider (RFC 7519, OpenID Connect Discovery 1.0).

A token is a JWT that the provider has signed with an asymmetric key of its published set. The set is fetched when it is
needed first, again after `FRESH_SECONDS`, and for a key that it does not have, at most once per `RETRY_SECONDS`. So
forged tokens cannot make the server flood the provider. If the provider does not respond, its last keys stay in use
for `STALE_SECONDS`.
"""

import asyncio
import hashlib
import json
import logging
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from serve.auth_settings import OidcSettings, is_trusted_url
from serve.errors import ProviderUnavailable, Unauthenticated
from serve.scopes import Scope

if TYPE_CHECKING:
    from jwt import PyJWK

logger = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
REQUIRED_CLAIMS = ("exp", "iat", "iss", "aud", "sub")
JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
MAX_TOKEN_CHARS = 16_384
MAX_DOCUMENT_BYTES = 2**20
MAX_KEYS = 100
FETCH_SECONDS = 5.0
FRESH_SECONDS = 300.0
RETRY_SECONDS = 10.0
STALE_SECONDS = 3600.0
ID_CHARS = 12  # of 6 bits; as many characters as the id of an API key has, so that owners of both kinds fit in a column
UNNAMED = re.compile(r"[^A-Za-z0-9._@-]+")


@dataclass(frozen=True, kw_only=True)
class TokenIdentity:
    """The subject of a valid token."""

    subject_id: str  # id of the owner of resources, made from issuer and subject
    name: str
    scopes: tuple[Scope, ...]


def is_token(text: str) -> bool:
    """Return whether a text has the form of a signed JWT; API keys do not."""
    return len(text) <= MAX_TOKEN_CHARS and JWT.fullmatch(text) is not None


class TokenVerifier:
    """Verifies the tokens of one provider."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._keys = _KeySet(settings.issuer)

    @property
    def is_provider_available(self) -> bool:
        """Whether the last attempt to fetch the keys of the provider succeeded, or there was none."""
        return not self._keys.has_failed

    async def verify(self, token: str) -> TokenIdentity:
        """Return the subject of a token.

        Raises:
            Unauthenticated: the token is invalid, expired, or not for this server.
            ProviderUnavailable: the keys of the provider are needed and cannot be fetched.
        """
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key_id = header.get("kid")
            if key_id is not None and not isinstance(key_id, str):
                raise Unauthenticated("the `kid` of the token is not text")
            if header.get("alg") not in ALGORITHMS:
                raise Unauthenticated(f"the algorithm of the token is not allowed; allowed: {', '.join(ALGORITHMS)}")
            claims = jwt.decode(
                token,
                await self._keys.find(key_id),
                algorithms=ALGORITHMS,
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway_seconds,
                options={"require": list(REQUIRED_CLAIMS), "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token is not valid: {error}") from error
        return self._identity(claims)

    def _identity(self, claims: Mapping[str, Any]) -> TokenIdentity:
        settings = self._settings
        subject, name = claims["sub"], claims.get(settings.name_claim, claims["sub"])
        if not isinstance(subject, str) or not subject:
            raise Unauthenticated("the `sub` of the token is not text")
        subject_id = _owner_id(settings.issuer, subject)
        shown = UNNAMED.sub("-", name).strip("-._@")[:64] if isinstance(name, str) else ""
        values = claims.get(settings.scope_claim, ())
        items = values.split() if isinstance(values, str) else values if isinstance(values, list) else ()
        scopes = {settings.scopes[item] for item in items if isinstance(item, str) and item in settings.scopes}
        return TokenIdentity(subject_id=subject_id, name=shown or subject_id, scopes=tuple(sorted(scopes)))


class _KeySet:
    """The published keys of a provider."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._keys: dict[str | None, PyJWK] = {}  # by `kid`
        self._fetched_at = -float("inf")
        self._tried_at = -float("inf")
        self._lock = asyncio.Lock()
        self.has_failed = False  # the last attempt to fetch them

    async def find(self, key_id: str | None) -> "PyJWK":
        """Return a key. A token without `kid` is signed with the only key of the set.

        Raises:
            Unauthenticated: the provider does not have the key.
            ProviderUnavailable: the keys cannot be fetched.
        """
        async with self._lock:
            now = time.monotonic()
            is_stale = now - self._fetched_at > FRESH_SECONDS
            if (is_stale or self._lookup(key_id) is None) and now - self._tried_at > RETRY_SECONDS:
                self._tried_at = now
                await self._fetch()
            if time.monotonic() - self._fetched_at > STALE_SECONDS:
                raise ProviderUnavailable("the keys of the identity provider cannot be fetched; see the server log")
        key = self._lookup(key_id)
        if key is None:
            raise Unauthenticated("the identity provider has no key with the `kid` of the token")
        return key

    def _lookup(self, key_id: str | None) -> "PyJWK | None":
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _fetch(self) -> None:
        try:
            self._keys = await self._download()
            self._fetched_at, self.has_failed = time.monotonic(), False
        except (httpx.HTTPError, ValueError, TimeoutError) as error:
            self.has_failed = True
            reason = str(error) or type(error).__name__
            logger.warning("cannot fetch the keys of the identity provider %s: %s", self._issuer, reason)

    async def _download(self) -> "dict[str | None, PyJWK]":
        """Return the keys for signatures of the provider.

        Raises:
            httpx.HTTPError, TimeoutError: the provider does not respond.
            ValueError: a document is not what the specification says.
        """
        import jwt

        async with (
            asyncio.timeout(2 * FETCH_SECONDS),
            httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False) as client,
        ):
            configuration = await _get_json(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if configuration.get("issuer") != self._issuer:
                raise ValueError(f"the provider names itself {configuration.get('issuer')!r}")
            address = configuration.get("jwks_uri")
            if not isinstance(address, str) or not is_trusted_url(address):
                raise ValueError(f"jwks_uri is not a https URL, got {address!r}")
            if urlsplit(address).scheme != "https" and urlsplit(self._issuer).scheme == "https":
                raise ValueError(f"jwks_uri is not a https URL, got {address!r}")
            document = await _get_json(client, address)
        items = document.get("keys")
        if not isinstance(items, list) or not 0 < len(items) <= MAX_KEYS:
            raise ValueError(f"the provider must publish 1 to {MAX_KEYS} keys")
        keys: dict[str | None, PyJWK] = {}
        for item in items:
            if not isinstance(item, dict) or item.get("use", "sig") != "sig" or item.get("kty") == "oct":
                continue
            try:
                keys[item.get("kid")] = jwt.PyJWK(item)
            except jwt.PyJWTError as error:
                logger.info("a key of the identity provider is passed over: %s", error)
        return keys


async def _get_json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    async with client.stream("GET", url, headers={"Accept": "application/json"}) as response:
        if response.status_code != httpx.codes.OK:
            raise ValueError(f"{url} has the status {response.status_code}")
        content = b""
        async for part in response.aiter_bytes():
            content += part
            if len(content) > MAX_DOCUMENT_BYTES:
                raise ValueError(f"{url} has more than {MAX_DOCUMENT_BYTES} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{url} is not JSON") from error
    if not isinstance(document, dict):
        raise ValueError(f"{url} is not a JSON object")
    return document


def _owner_id(issuer: str, subject: str) -> str:
    digest = hashlib.sha256(f"{issuer}\n{subject}".encode()).digest()
    return urlsafe_b64encode(digest).decode()[:ID_CHARS]
