"""Exit with 0 if the server of this container responds, for HEALTHCHECK."""

import os
import sys
import urllib.request

# a server accepts only the hosts of this setting, if there is one
hosts = [name.strip() for name in os.environ.get("SERVE_HTTP__ALLOWED_HOSTS", "").split(",")]
host = next((name for name in hosts if name and "*" not in name), "localhost")
url = f"http://127.0.0.1:{os.environ.get('SERVE_PORT', '8080')}/healthz"
try:
    request = urllib.request.Request(url, headers={"Host": host})  # a fixed scheme
    with urllib.request.urlopen(request, timeout=3) as response:  # noqa: S310
        sys.exit(0 if response.status == 200 else 1)
except OSError as error:
    sys.exit(f"{url}: {error}")
