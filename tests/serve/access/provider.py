"""An OpenID Connect provider on loopback: it publishes keys and signs tokens."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

AUDIENCE = "actserve"
PrivateKey = rsa.RSAPrivateKey


class Provider:
    """The state of the provider; tests change it."""

    def __init__(self, address: str) -> None:
        self.issuer = address
        self.named_issuer = address  # in its configuration
        self.is_down = False
        self.requests: Counter[str] = Counter()  # by path
        self.keys: dict[str | None, PrivateKey] = {"first": make_key()}

    def token(self, *, key_id: str | None = "first", key: PrivateKey | None = None, **changes: Any) -> str:
        """Return a token; a claim that is None is left out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": AUDIENCE, "sub": "someone", "iat": now, "exp": now + 600, "scope": "infer",
        } | changes  # fmt: skip
        headers = {} if key_id is None else {"kid": key_id}
        present = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(present, key or self.keys[key_id], algorithm="RS256", headers=headers)

    def document(self, path: str) -> dict[str, Any] | None:
        """Return the document at a path."""
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.named_issuer, "jwks_uri": f"{self.issuer}/keys"}
        if path == "/keys":
            return {"keys": [public_key(key_id, key) for key_id, key in self.keys.items()]}
        return None


def make_key() -> PrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_key(key_id: str | None, key: PrivateKey) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    return {**document, "use": "sig", "alg": "RS256", **({} if key_id is None else {"kid": key_id})}


@contextmanager
def running_provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.requests[self.path] += 1
            document = provider.document(self.path)
            if provider.is_down or document is None:
                self.send_error(503 if provider.is_down else 404)
                return
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
