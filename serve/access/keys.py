"""API keys: generation, text format and verification.

The text of a key is `as_ID_SECRET`. ID identifies the row in the database; only the SHA-256 of SECRET is stored. A fast
hash is sufficient because the secret has 256 random bits; slow password hashes are for passwords that people choose.
"""

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass

from serve.access.limits import NO_LIMITS, KeyLimits
from serve.scopes import Scope

KEY = re.compile(r"as_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
LIFETIME = re.compile(r"([1-9][0-9]{0,4})([hd])")
SECONDS = {"h": 3600, "d": 86_400}


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A stored API key; times are in seconds since 1970."""

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    secret_sha256: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    limits: KeyLimits = NO_LIMITS

    def is_valid(self, now: float | None = None) -> bool:
        """Return whether the key is neither revoked nor expired."""
        moment = time.time() if now is None else now
        return self.revoked_at is None and (self.expires_at is None or moment < self.expires_at)

    def matches(self, secret: str) -> bool:
        """Compare a secret in constant time."""
        return hmac.compare_digest(self.secret_sha256, hash_secret(secret))


def new_key(
    name: str, scopes: tuple[Scope, ...], *, lifetime_seconds: float | None, limits: KeyLimits = NO_LIMITS
) -> tuple[ApiKey, str]:
    """Return a new key and its text, which cannot be read again later."""
    key_id, secret, now = secrets.token_hex(6), secrets.token_urlsafe(32), time.time()
    key = ApiKey(
        key_id=key_id,
        name=name,
        scopes=scopes,
        secret_sha256=hash_secret(secret),
        created_at=now,
        expires_at=None if lifetime_seconds is None else now + lifetime_seconds,
        limits=limits,
    )
    return key, f"as_{key_id}_{secret}"


def split_key(text: str) -> tuple[str, str] | None:
    """Split the text of a key into (key_id, secret); return None if it does not have the format of a key."""
    match = KEY.fullmatch(text)
    return None if match is None else (match[1], match[2])


def hash_secret(secret: str) -> str:
    """Return the SHA-256 of a secret, in hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_lifetime(text: str) -> float:
    """Convert a lifetime such as `12h` or `90d` to seconds.

    >>> parse_lifetime("90d")
    7776000.0

    Raises:
        ValueError: the text is not a number of hours or days.
    """
    match = LIFETIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a lifetime such as 12h or 90d")
    return float(int(match[1]) * SECONDS[match[2]])
