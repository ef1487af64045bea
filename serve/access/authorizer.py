"""Who sends a request: the decision whether a route may be used, from the key of the request."""

import asyncio
import logging
import threading
import time
from dataclasses import dataclass

import cachetools

from serve.access.key_store import KeyStore
from serve.access.keys import ApiKey, split_key
from serve.access.rules import LOOPBACK_NAMES
from serve.access.scopes import Scope, satisfies
from serve.access.usage import KeyUse, UsageStore
from serve.errors import ConfigurationError, Forbidden, StoreUnavailable, Unauthenticated
from serve.settings import ServeSettings

logger = logging.getLogger(__name__)

KNOWN_SECONDS = 2.0  # a revoked key is refused after at most this time, on every gateway
MAX_KNOWN = 10_000
RECORDED_SECONDS = 60.0  # the last use of a key is recorded at most once in this time
BEARER = "bearer "


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who sent a request; without keys everybody is the same caller, who may do everything."""

    key_id: str | None
    name: str
    scopes: tuple[Scope, ...]
    use: KeyUse | None = None  # if the key has limits

    @property
    def is_admin(self) -> bool:
        """Return whether the caller sees what belongs to others."""
        return Scope.ADMIN in self.scopes

    def owns(self, key_id: str | None) -> bool:
        """Return whether the caller may see and delete what a key made."""
        return self.is_admin or (key_id is not None and key_id == self.key_id)


ANYBODY = Caller(key_id=None, name="", scopes=(Scope.ADMIN,))


class Authorizer:
    """Recognises keys and checks scopes; keys are read from the store and known for `KNOWN_SECONDS`."""

    def __init__(self, store: KeyStore, usage: UsageStore, settings: ServeSettings) -> None:
        self._store = store
        self._usage = usage
        self._mode = settings.auth.mode
        self._host = settings.host.lower()
        self._lock = threading.Lock()
        self._known: cachetools.TTLCache[str, ApiKey | None] = cachetools.TTLCache(MAX_KNOWN, KNOWN_SECONDS)
        self._required: cachetools.TTLCache[str, bool] = cachetools.TTLCache(1, KNOWN_SECONDS)
        self._recorded: dict[str, float] = {}

    async def check_start(self) -> None:
        """Refuse to serve other machines without keys; warn where access is off.

        Raises:
            ConfigurationError: there is no key, and the server would listen on an address other than loopback.
        """
        if self._mode == "off":
            logger.warning("SERVE_AUTH__MODE=off: whoever reaches this server may change and delete everything")
            return
        if await asyncio.to_thread(self._store.has_valid):
            return
        if self._mode == "keys" or self._host not in LOOPBACK_NAMES:
            reason = "SERVE_AUTH__MODE=keys" if self._mode == "keys" else f"the server would listen on {self._host}"
            raise ConfigurationError(
                f"{reason} and there is no valid API key: create one with `actserve keys create NAME --scope admin`, "
                "or set SERVE_AUTH__MODE=off to let everybody do everything",
                field="auth",
            )

    async def authorize(self, headers: tuple[str | None, str | None], required: Scope) -> Caller:
        """Return the caller of a request with these headers (Authorization, X-API-Key).

        Raises:
            Unauthenticated: keys are required, and the request carries no valid one, or two.
            Forbidden: the key lacks the scope.
            StoreUnavailable: the database does not answer.
        """
        if self._mode == "off":
            return ANYBODY
        text = _key_text(*headers)
        if text is None:
            if await self._requires_keys():
                raise Unauthenticated("the request needs an API key: `Authorization: Bearer KEY` or `X-API-Key: KEY`")
            return ANYBODY
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

    async def end(self, use: KeyUse) -> None:
        """Record that a request has ended; an unreachable database is logged, because the record expires."""
        if use.request_id is None:
            return
        try:
            await asyncio.to_thread(self._usage.end, use.request_id)
        except StoreUnavailable as error:
            logger.warning("the end of a request of a key with limits was not recorded: %s", error)

    async def _requires_keys(self) -> bool:
        if self._mode == "keys":
            return True
        with self._lock:
            known = self._required.get("")
        if known is None:
            known = self._host not in LOOPBACK_NAMES or await asyncio.to_thread(self._store.has_valid)
            with self._lock:
                self._required[""] = known
        return known

    async def _find(self, text: str) -> ApiKey | None:
        parts = split_key(text)
        if parts is None:
            return None
        key_id, secret = parts
        with self._lock:
            is_known, key = key_id in self._known, self._known.get(key_id)
        if not is_known:
            key = await asyncio.to_thread(self._store.find, key_id)
            with self._lock:
                self._known[key_id] = key
        return key if key is not None and key.matches(secret) and key.is_valid() else None

    async def _record_use(self, key: ApiKey) -> None:
        now = time.time()
        if now - self._recorded.get(key.key_id, 0.0) >= RECORDED_SECONDS:
            self._recorded[key.key_id] = now
            await asyncio.to_thread(self._store.record_use, key.key_id, now)


def _key_text(authorization: str | None, api_key: str | None) -> str | None:
    """Return the key that the headers carry, if any.

    Raises:
        Unauthenticated: both headers carry one, or `Authorization` has another scheme than Bearer.
    """
    if authorization is None:
        return api_key
    if api_key is not None:
        raise Unauthenticated("the request carries both Authorization and X-API-Key; send one of them")
    if not authorization.lower().startswith(BEARER):
        raise Unauthenticated("Authorization has to be `Bearer KEY`")
    return authorization[len(BEARER) :].strip()
