"""How much memory those who wait for a model hold, each caller of a text counted."""

from service.errors import Overloaded
from service.metrics import ModelMetrics

# Measured: what a text and its caller take in objects, and what a token takes as a number of a list
# and in the text's key.
TEXT_BYTES = 800
TOKEN_BYTES = 44
RETRY_AFTER_S = 1.0


class WaitingMemory:
    """From a text's admission to its caller's answer. Not for several threads at a time.

    Tokens alone bound what is computed: a text that is in flight already costs none, however many
    ask for it, and short texts take more memory a token than long ones.

    Args:
        max_bytes: once so much is held, nothing more is admitted.
    """

    def __init__(self, max_bytes: float, metrics: ModelMetrics) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        metrics.queue_bytes.add(lambda: self._bytes)

    def admit(self) -> None:
        """Raise Overloaded if there is no room; what is let in may go beyond by one request."""
        if self._bytes >= self._max_bytes:
            raise Overloaded(
                f"those who wait hold {self._bytes} bytes, the limit is {self._max_bytes:g} "
                "(ENCSERVE_MAX_QUEUE_BYTES): send the request again later",
                retry_after_s=RETRY_AFTER_S,
            )

    def hold(self, tokens: int) -> None:
        """A caller waits for a text of so many tokens."""
        self._bytes += TEXT_BYTES + TOKEN_BYTES * tokens

    def release(self, tokens: int) -> None:
        """The caller has its answer, or has left."""
        self._bytes -= TEXT_BYTES + TOKEN_BYTES * tokens
