"""Authenticate requests by API key or token, and check whether its scopes allow a route."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import cachetools

from serve.access.key_store import KeyStore
from serve.access.keys import ApiKey, split_key
from serve.access.oidc import TokenVerifier, is_token
from serve.access.rules import LOOPBACK_NAMES
from serve.access.usage import KeyUse, UsageStore
from serve.errors import ConfigurationError, Forbidden, StoreUnavailable, Unauthenticated
from serve.scopes import Scope, satisfies
from serve.settings import ServeSettings

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

STALE_SECONDS = 60.0  # while the database is unavailable, what was read last remains valid for so long
KEY_CACHE_SECONDS = 2.0  # every server process rejects a revoked key after at most this time
MAX_CACHED_KEYS = 10_000
RECORD_INTERVAL_SECONDS = 60.0  # the last use of a key is recorded at most once per interval
BEARER_PREFIX = "bearer "


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The sender of a request. If no keys are required, all requests have the same caller with all rights."""

    key_id: str | None  # of the API key, or of the subject of the token
    name: str
    scopes: tuple[Scope, ...]
    use: KeyUse | None = None  # if the key has limits

    @property
    def is_admin(self) -> bool:
        """Return whether the caller may access resources of other API keys."""
        return Scope.ADMIN in self.scopes

    def owns(self, key_id: str | None) -> bool:
        """Return whether the caller may read and delete resources that the given API key created."""
        return self.is_admin or (key_id is not None and key_id == self.key_id)


ANONYMOUS = Caller(key_id=None, name="", scopes=(Scope.ADMIN,))


class _StoreCache(Generic[Value]):
    """Values of the database, read again after `KEY_CACHE_SECONDS`, or `STALE_SECONDS` while it is unavailable."""

    def __init__(self, max_size: int) -> None:
        self._lock = threading.Lock()
        self._fresh: cachetools.TTLCache[str, Value] = cachetools.TTLCache(max_size, KEY_CACHE_SECONDS)
        self._last: cachetools.TTLCache[str, Value] = cachetools.TTLCache(max_size, STALE_SECONDS)

    async def get(self, name: str, read: Callable[[], Value]) -> Value:
        """Return a value; `read` reads it from the database.

        Raises:
            StoreUnavailable: the database is unavailable, and the value was not read before.
        """
        with self._lock, suppress(KeyError):
            return self._fresh[name]
        try:
            value = await asyncio.to_thread(read)
        except StoreUnavailable as error:
            with self._lock:
                try:
                    value = self._last[name]
                except KeyError:
                    raise error from None
        else:
            with self._lock:
                self._last[name] = value
        with self._lock:
            self._fresh[name] = value
        return value


class Authorizer:
    """Finds API keys and checks their scopes; keys are cached for `KEY_CACHE_SECONDS`.

    While the database is unavailable, keys that were read in the last `STALE_SECONDS` are still accepted, so that a
    restart of the database fails no classification. Keys with limits need it for each request.
    """

    def __init__(self, store: KeyStore, usage: UsageStore, settings: ServeSettings) -> None:
        self._store = store
        self._usage = usage
        self._mode = settings.auth.mode
        self._host = settings.host.lower()
        self._tokens = TokenVerifier(settings.oidc) if settings.oidc.issuer else None
        self._keys: _StoreCache[ApiKey | None] = _StoreCache(MAX_CACHED_KEYS)  # by id
        self._has_valid: _StoreCache[bool] = _StoreCache(1)
        self._recorded_at: dict[str, float] = {}

    @property
    def fault(self) -> str | None:
        """Why tokens of the identity provider cannot be verified; None if they can, or none are accepted."""
        if self._tokens is None or self._tokens.is_provider_available:
            return None
        return "the keys of the identity provider cannot be fetched; see the server log"

    async def check_start(self) -> None:
        """Reject a configuration that would serve other machines without keys; warn if access control is off.

        Raises:
            ConfigurationError: keys are required, by the mode or for a non-loopback address, and there is no valid key
                and no identity provider.
        """
        if self._mode == "off":
            logger.warning(
                "SERVE_AUTH__MODE=off: every client that can reach this server may change and delete everything"
            )
            return
        if self._tokens is not None or await asyncio.to_thread(self._store.has_valid):
            return
        if self._mode == "keys" or self._host not in LOOPBACK_NAMES:
            reason = "SERVE_AUTH__MODE=keys" if self._mode == "keys" else f"the server would listen on {self._host}"
            raise ConfigurationError(
                f"{reason}, but there is no valid API key: create one with `actserve keys create NAME --scope admin`, "
                "set SERVE_OIDC__ISSUER, or set SERVE_AUTH__MODE=off to allow all requests without a key",
                field="auth",
            )

    async def authorize(self, headers: tuple[str | None, str | None], required: Scope) -> Caller:
        """Return the caller of a request with these headers (Authorization, X-API-Key).

        Raises:
            Unauthenticated: the request has no key although keys are required, an invalid key or token, or two.
            Forbidden: the key or token does not have the scope.
            ProviderUnavailable: the token cannot be verified.
            StoreUnavailable: the database is unavailable.
        """
        if self._mode == "off":
            return ANONYMOUS
        text = _read_key(*headers)
        if text is None:
            if await self._requires_keys():
                raise Unauthenticated("an API key is required: send `Authorization: Bearer KEY` or `X-API-Key: KEY`")
            return ANONYMOUS
        if self._tokens is not None and is_token(text):
            return await self._authorize_token(text, required)
        key = await self._find(text)
        if key is None:
            raise Unauthenticated("the API key is unknown, expired or revoked")
        if not satisfies(key.scopes, required):
            raise Forbidden(
                f"the key {key.name!r} has the scopes {', '.join(key.scopes)}; this route requires {required}"
            )
        await self._record_use(key)
        use = None if key.limits.is_empty else await asyncio.to_thread(self._usage.start, key)
        return Caller(key_id=key.key_id, name=key.name, scopes=key.scopes, use=use)

    async def _authorize_token(self, token: str, required: Scope) -> Caller:
        assert self._tokens is not None, "the caller checks it"
        identity = await self._tokens.verify(token)
        if not satisfies(identity.scopes, required):
            scopes = ", ".join(identity.scopes) or "no scope of this server"
            raise Forbidden(f"the token of {identity.name!r} has {scopes}; this route requires {required}")
        return Caller(key_id=identity.subject_id, name=identity.name, scopes=identity.scopes)

    async def end(self, use: KeyUse) -> None:
        """Record that a request has ended; an unreachable database is logged, because the record expires."""
        if use.request_id is None:
            return
        try:
            await asyncio.to_thread(self._usage.end, use.request_id)
        except StoreUnavailable as error:
            logger.warning("the end of a request of a key with limits was not recorded: %s", error)

    async def _requires_keys(self) -> bool:
        if self._mode == "keys" or self._tokens is not None:
            return True
        return self._host not in LOOPBACK_NAMES or await self._has_valid.get("", self._store.has_valid)

    async def _find(self, text: str) -> ApiKey | None:
        parts = split_key(text)
        if parts is None:
            return None
        key_id, secret = parts
        key = await self._keys.get(key_id, partial(self._store.find, key_id))
        return key if key is not None and key.matches(secret) and key.is_valid() else None

    async def _record_use(self, key: ApiKey) -> None:
        now = time.time()
        if now - self._recorded_at.get(key.key_id, 0.0) >= RECORD_INTERVAL_SECONDS:
            self._recorded_at[key.key_id] = now
            try:
                await asyncio.to_thread(self._store.record_use, key.key_id, now)
            except StoreUnavailable as error:
                logger.warning("the use of a key was not recorded: %s", error)


def _read_key(authorization: str | None, api_key: str | None) -> str | None:
    """Return the text of the key in the headers; None if there is none.

    Raises:
        Unauthenticated: both headers are set, or the scheme of `Authorization` is not Bearer.
    """
    if authorization is None:
        return api_key
    if api_key is not None:
        raise Unauthenticated("the request has both the Authorization and the X-API-Key header; send only one of them")
    if not authorization.lower().startswith(BEARER_PREFIX):
        raise Unauthenticated("the Authorization header must be `Bearer KEY`")
    return authorization[len(BEARER_PREFIX) :].strip()
