"""Serve the page and pass its requests on to actserve, as a reverse proxy of your site would.

A browser lets a page call the host it came from, so the page and `/v1/` share one address.

python examples/page/serve.py --server http://127.0.0.1:8080 --port 8000
"""

import argparse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

PAGE = Path(__file__).with_name("index.html")


def handler(server: str) -> type[BaseHTTPRequestHandler]:
    """A handler that passes requests on to a server."""
    client = httpx.Client(base_url=server, timeout=120)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, "text/html; charset=utf-8", PAGE.read_bytes())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {"content-type": self.headers["content-type"]}
            response = client.post(self.path, content=body, headers=headers)
            self._answer(response.status_code, response.headers["content-type"], response.content)

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    with ThreadingHTTPServer(("127.0.0.1", options.port), handler(options.server)) as httpd:
        print(f"http://127.0.0.1:{httpd.server_port}/", flush=True)
        httpd.serve_forever()


if __name__ == "__main__":
    main()
