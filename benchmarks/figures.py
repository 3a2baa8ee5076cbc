"""What a drive comes to: rates, latencies, processor and memory; medians of rounds; tables."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Protocol

from benchmarks.common import percentile
from benchmarks.generator import Sent, Stream

Run = Callable[[Sequence[Stream], float], list[Sent]]


@dataclass(frozen=True)
class Figures:
    """cpu_cores: of the server; client_cores: of the load generator, which shares the machine."""

    texts_per_s: float
    tokens_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_cores: float
    client_cores: float
    memory_mib: float
    refused: float
    errors: float


COLUMNS = {
    "texts/s": ("texts_per_s", 1),
    "tokens/s": ("tokens_per_s", 0),
    "p50 ms": ("p50_ms", 1),
    "p95": ("p95_ms", 1),
    "p99": ("p99_ms", 1),
    "CPU cores": ("cpu_cores", 2),
    "clients' cores": ("client_cores", 2),
    "MiB": ("memory_mib", 0),
    "refused": ("refused", 0),
    "errors": ("errors", 0),
}


class Uses(Protocol):
    """Processor time and memory of a system."""

    def cpu_s(self) -> float: ...

    def memory_mib(self) -> float: ...

    def peak_mib(self) -> float: ...


@dataclass(frozen=True)
class Rig:
    """A system under load: what runs streams on it, what it uses, and how long each load takes."""

    run: Run
    usage: Uses
    seconds: float

    def measure(self, *streams: Stream) -> list[Figures]:
        """One result a stream; processor and memory are of all of them together."""
        before_s = self.usage.cpu_s()
        sent = self.run(streams, self.seconds)
        cpu_s = self.usage.cpu_s() - before_s
        took_s = max(one.took_s for one in sent)
        memory_mib = self.usage.memory_mib()
        return [_figures(one, cpu_s / took_s, memory_mib) for one in sent]


def _figures(sent: Sent, cpu_cores: float, memory_mib: float) -> Figures:
    if not sent.latencies_s:
        raise SystemExit(f"no answer: {sent.refused} refused, {sent.errors} errors")
    p50_ms, p95_ms, p99_ms = (
        1000 * percentile(sent.latencies_s, share) for share in (0.5, 0.95, 0.99)
    )
    return Figures(
        texts_per_s=sent.texts / sent.took_s,
        tokens_per_s=sent.tokens / sent.took_s,
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        p99_ms=p99_ms,
        cpu_cores=cpu_cores,
        client_cores=sent.client_cpu_s / sent.took_s,
        memory_mib=memory_mib,
        refused=sent.refused,
        errors=sent.errors,
    )


def medians(rounds: Sequence[Figures]) -> Figures:
    """Each figure's median by itself; errors are added up, as none may be lost."""
    middle = {
        field.name: median(getattr(one, field.name) for one in rounds) for field in fields(Figures)
    }
    return Figures(**middle | {"errors": sum(one.errors for one in rounds)})


def cells(found: Figures, columns: Iterable[str] = COLUMNS) -> list[str]:
    chosen = [COLUMNS[column] for column in columns]
    return [f"{getattr(found, name):.{digits}f}" for name, digits in chosen]


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> None:
    """Markdown; the first `names` columns are words, the others numbers."""
    rule = ["---"] * names + ["---:"] * (len(head) - names)
    for row in (head, rule, *rows):
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def refuse_errors(found: Iterable[Sequence[Figures]]) -> None:
    """End with a failure if any request did."""
    errors = sum(one.errors for rounds in found for one in rounds)
    if errors:
        raise SystemExit(f"{errors:.0f} requests ended in an error")
