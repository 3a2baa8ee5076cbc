"""The server image's HEALTHCHECK: exit status 0 if /readyz answers 200, else 1."""

import http.client
import os
import ssl
import sys

TIMEOUT_S = 2.0

# Not urllib: it would ask a proxy that the environment names.
port = os.environ.get("ENCSERVE_PORT", "8080")
# Kubernetes sets it to tcp://… beside a Service of that name; the server passes over that too.
port = "8080" if port.startswith("tcp://") else port
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)
if os.environ.get("ENCSERVE_TLS_CERT_FILE"):
    # Its certificate is of the name that callers know; this is the same machine.
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        "127.0.0.1", int(port), timeout=TIMEOUT_S, context=trusting
    )
try:
    connection.request("GET", "/readyz")
    response = connection.getresponse()
except OSError as error:
    sys.exit(f"no answer from /readyz: {error}")
if response.status != 200:
    sys.exit(f"/readyz answered {response.status}: {response.read(1000).decode(errors='replace')}")
