"""What a request leaves behind beside counts: a line in the log, and the spans of its trace."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.api.probes import PROBES
from service.logs import log_fields
from service.tracing import RequestTrace
from service.work import Call, Work

logger = logging.getLogger("encserve.request")

# So many askings of models are spans of their own.
MOST_CALLS = 32


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that is over; times are on the clock of `time.perf_counter`, 0 if never reached.

    endpoint: the route as it is declared, never the path that was asked for. outcome: `ok`, or the
    code of the error. read_at_s: the whole body was there. write_from_s: the answer began.
    """

    method: str
    endpoint: str
    status: int
    outcome: str
    started_s: float
    read_at_s: float
    write_from_s: float
    ended_s: float


def level_of(path: str, status: int = 200) -> int:
    """How severe the line of a request is: warning for our own faults."""
    if status >= 500:
        return logging.WARNING
    return logging.DEBUG if path in PROBES else logging.INFO


def logged(path: str) -> bool:
    """An answer to this path would be told."""
    return logger.isEnabledFor(level_of(path))


def log_request(ended: Ended, path: str, state: Mapping[str, Any]) -> None:
    """One line, if its level is written. No text of a caller, nor the path that was asked for."""
    level = level_of(path, ended.status)
    if not logger.isEnabledFor(level):
        return
    work: Work = state.get("work") or Work()
    texts, tokens = work.totals()
    fields = {
        "id": state["request_id"],
        "method": ended.method,
        "route": ended.endpoint,
        "status": ended.status,
        "outcome": ended.outcome,
        "ms": _ms(ended.ended_s - ended.started_s),
    }
    if state.get("model"):
        fields |= {"model": state["model"], "version": state["version"]}
    if texts:
        fields |= {"texts": texts, "tokens": tokens}
    if stages := _stages(ended, work):
        fields["stages"] = {name: _ms(seconds) for name, seconds in stages.items()}
    for name in ("key", "trace_id"):
        if state.get(name):
            fields[name] = state[name]
    log_fields(logger, level, "request", fields)


def end_trace(trace: RequestTrace, ended: Ended, state: Mapping[str, Any]) -> None:
    """The spans of the stages, then that of the request itself."""
    if trace.sampled:
        work: Work = state.get("work") or Work()
        if ended.read_at_s:
            trace.stage("read", ended.started_s, ended.read_at_s)
        for call in work.calls[:MOST_CALLS]:
            _trace_call(trace, call)
        if ended.write_from_s:
            if work.done_at_s:
                trace.stage("post_process", work.done_at_s, ended.write_from_s)
            trace.stage("write", ended.write_from_s, ended.ended_s)
        texts, tokens = work.totals()
        trace.note(
            {
                "http.request.method": ended.method,
                "http.route": ended.endpoint,
                "http.response.status_code": ended.status,
                "encserve.request_id": state["request_id"],
                "encserve.model": state.get("model", ""),
                "encserve.version": state.get("version", ""),
                "encserve.outcome": ended.outcome,
                **({"encserve.key": state["key"]} if state.get("key") else {}),
                "encserve.texts": texts,
                "encserve.tokens": tokens,
            }
        )
    failed = ended.outcome if ended.status >= 500 else None
    trace.end(f"{ended.method} {ended.endpoint}", ended.ended_s, failed)


def _trace_call(trace: RequestTrace, call: Call) -> None:
    timing = call.timing
    tokenized_s = call.started_s + call.tokenize_s
    about = {"encserve.texts": call.texts, "encserve.tokens": call.tokens}
    trace.stage("tokenize", call.started_s, tokenized_s, about)
    if not timing.done_at_s:
        return
    if not timing.run_from_s:
        # All from the cache, or given up before a run began.
        trace.stage("queue", tokenized_s, timing.done_at_s)
        return
    # A text that was in flight already may have begun before.
    run_from_s = max(tokenized_s, timing.run_from_s)
    trace.stage("queue", tokenized_s, run_from_s)
    trace.stage("infer", run_from_s, timing.done_at_s, links=timing.runs)


def _stages(ended: Ended, work: Work) -> dict[str, float]:
    """Seconds by stage, of those that were reached."""
    stages = {}
    if ended.read_at_s:
        stages["read"] = ended.read_at_s - ended.started_s
    stages |= work.stages_s()
    if ended.write_from_s:
        if work.done_at_s:
            stages["post_process"] = ended.write_from_s - work.done_at_s
        stages["write"] = ended.ended_s - ended.write_from_s
    return stages


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
