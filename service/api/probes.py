"""The paths by which machines ask, every few seconds, how the server is."""

# Answered over the limit of connections and without a key (but for /metrics, which may have one of
# its own), told at level debug, and not traced.
PROBES = frozenset(
    ("/livez", "/readyz", "/metrics", "/health", "/ping", "/v2/health/live", "/v2/health/ready")
)
