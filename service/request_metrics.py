"""What is counted of a request once it is over."""

from typing import Literal

from prometheus_client import Counter, Histogram

Fault = Literal["none", "caller", "server"]
FAULTS: tuple[Fault, ...] = ("none", "caller", "server")

# Kinds of errors (route, model, code) with a series of their own. There are more of them than
# anybody can look at, and a caller may try them all: the rest are told apart by code alone.
MOST_ERROR_SERIES = 48


class RequestMetrics:
    """Series by route, model and outcome, bound when they are first met."""

    def __init__(
        self,
        requests: Counter,
        slo_requests: Counter,
        duration: Histogram,
        stage_duration: Histogram,
    ) -> None:
        self._requests = requests
        self._slo_requests = slo_requests
        self._duration = duration
        self._stage_duration = stage_duration
        self._counts: dict[tuple[str, str, str, str], Counter] = {}
        self._faults: dict[tuple[str, str, Fault], Counter] = {}
        self._durations: dict[tuple[str, str, str], Histogram] = {}
        self._reads: dict[tuple[str, str], tuple[Histogram, Histogram]] = {}
        self._errors: set[tuple[str, str, str, str]] = set()
        slo_requests.labels("", "", "server")

    def declare(self, model: str, version: str) -> None:
        """Start at zero what alerts are made of."""
        for fault in FAULTS:
            self._slo_requests.labels(model, version, fault)

    def ended(
        self, endpoint: str, model: str, version: str, outcome: str, fault: Fault | None
    ) -> None:
        """A request is over; without a fault to judge, the objectives have no part in it."""
        key = (endpoint, model, version, outcome)
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = self._requests.labels(*self._bounded(key))
        count.inc()
        if fault is not None:
            of_fault = (model, version, fault)
            judged = self._faults.get(of_fault)
            if judged is None:
                judged = self._faults[of_fault] = self._slo_requests.labels(*of_fault)
            judged.inc()

    def answered(
        self,
        endpoint: str,
        model: str,
        version: str,
        duration_s: float,
        trace_id: str | None = None,
    ) -> None:
        """A model has answered; the trace is an example of such a duration."""
        key = (endpoint, model, version)
        found = self._durations.get(key)
        if found is None:
            found = self._durations[key] = self._duration.labels(*key)
        found.observe(duration_s, {"trace_id": trace_id} if trace_id else None)

    def transferred(self, model: str, version: str, read_s: float, write_s: float) -> None:
        """The body of a request was read, and its answer written."""
        key = (model, version)
        found = self._reads.get(key)
        if found is None:
            found = self._reads[key] = (
                self._stage_duration.labels(*key, "read"),
                self._stage_duration.labels(*key, "write"),
            )
        found[0].observe(read_s)
        found[1].observe(write_s)

    def forget(self, model: str, version: str) -> None:
        """Their series were removed: whoever comes late counts in new ones."""
        gone = (model, version)
        self._counts = {key: at for key, at in self._counts.items() if key[1:3] != gone}
        self._durations = {key: at for key, at in self._durations.items() if key[1:] != gone}
        self._errors = {key for key in self._errors if key[1:3] != gone}
        for fault in FAULTS:
            self._faults.pop((model, version, fault), None)
        self._reads.pop(gone, None)

    def _bounded(self, key: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
        if key[3] == "ok":
            return key
        if len(self._errors) >= MOST_ERROR_SERIES:
            return ("other", "", "", key[3])
        self._errors.add(key)
        return key
