"""The server image's HEALTHCHECK: exit status 0 if /readyz answers 200, else 1."""

import http.client
import os
import sys

TIMEOUT_S = 2.0

# Not urllib: it would ask a proxy that the environment names.
connection = http.client.HTTPConnection(
    "127.0.0.1", int(os.environ.get("ENCSERVE_PORT", "8080")), timeout=TIMEOUT_S
)
try:
    connection.request("GET", "/readyz")
    response = connection.getresponse()
except OSError as error:
    sys.exit(f"no answer from /readyz: {error}")
if response.status != 200:
    sys.exit(f"/readyz answered {response.status}: {response.read(1000).decode(errors='replace')}")
