"""Does a caller take the answer that waits for it? Counted in bytes left, over a time."""

# What a caller who reads must take: 128 kbit/s.
MIN_READ_BYTES_S = 16 * 1024


class ReadPace:
    """Of one connection; whoever owns it says what waits, and when.

    Args:
        timeout_s: over each such time the pace must be kept.

    written: all bytes that were ever handed over, which whoever writes them counts.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since_s: float | None = None
        self._waiting = self._taken = self.written = 0

    @property
    def due_s(self) -> float:
        """When `is_too_slow` has to be asked next at the latest."""
        return float("inf") if self._since_s is None else self._since_s + self._timeout_s

    def wait(self, now_s: float, waiting_bytes: int) -> None:
        """From now on so much waits to be read."""
        self._since_s, self._waiting = now_s, waiting_bytes
        self._taken = self.written - waiting_bytes

    def end(self) -> None:
        """It was read."""
        self._since_s = None

    def is_too_slow(self, now_s: float, waiting_bytes: int) -> bool:
        """Over the time, less was taken than whoever reads would take, and not even what waited.

        What was written meanwhile is no fault of the reader.
        """
        if not waiting_bytes:
            self.end()
            return False
        since_s, waited, taken_before = self._since_s, self._waiting, self._taken
        if since_s is None:
            self.wait(now_s, waiting_bytes)
            return False
        if now_s < since_s + self._timeout_s:
            return False
        self.wait(now_s, waiting_bytes)
        taken = self._taken - taken_before
        return taken < min(waited, (now_s - since_s) * MIN_READ_BYTES_S)
