"""A day's traffic on replicas of one core behind the autoscaler of deploy/kubernetes.

    python -m benchmarks.day --sheet sheet.json [--hours 24] [--peak 100] [--low 12] [--tokens 256]

The rate follows the hours of the day between `low` and `peak` requests a second, doubles for ten
minutes in the afternoon, and every request is one text. Three autoscalers see the same day: the one
of the manifest, the same by its queue wait alone, and one by processor use alone; then as many
replicas as the peak needs, all day.
"""

import argparse
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.common import percentile
from benchmarks.figures import print_table
from benchmarks.scaled import CPU, WAIT, Day, Policy, policy_of, simulate_day
from benchmarks.sheet import Costs, read_sheet

HOUR_S = 3600.0
BURST_AT_S = 15 * HOUR_S
BURST_S = 600.0
LATE_S = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--peak", type=float, default=100)
    parser.add_argument("--low", type=float, default=12)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--only", default="", help="one of the policies, by its name")
    options = parser.parse_args()
    # A replica of one core: nothing runs wide.
    costs = replace(read_sheet(options.sheet).costs, cores=1)
    rate = partial(rate_at, low=options.low, peak=options.peak)
    rows = []
    for name, policy in policies(costs, options.tokens, options.peak).items():
        if options.only in ("", name):
            day = simulate_day(
                costs,
                rate,
                2 * options.peak,
                lambda _: [options.tokens],
                policy,
                seconds=options.hours * HOUR_S,
            )
            rows.append([name, *figures(day)])
            print(f"{name}: {by_hour(day)}", flush=True)
    capacity = 1 / (costs.narrow.of([options.tokens]) + costs.loop.of([options.tokens]))
    print(
        f"\n{options.tokens} tokens a text; one replica of one core does {capacity:.1f} texts/s\n"
    )
    head = ["texts", "replica hours", "p50 ms", "p95", "p99", f"over {LATE_S:g} s", "refused"]
    print_table(["by", *head], rows)


def rate_at(now_s: float, *, low: float, peak: float) -> float:
    """Requests a second: least at 4 in the morning, most at 4 in the afternoon, and a burst."""
    hour = now_s / HOUR_S % 24
    calm = low + (peak - low) * (0.5 - 0.5 * math.cos(2 * math.pi * (hour - 4) / 24))
    return 2 * calm if BURST_AT_S <= now_s < BURST_AT_S + BURST_S else calm


def policies(costs: Costs, tokens: int, peak: float) -> dict[str, Policy]:
    own = policy_of(most=20)
    enough = math.ceil(peak * costs.narrow.of([tokens]) / 0.7)
    fixed = replace(own, least=enough, most=enough)
    return {
        "wait and workers": own,
        "wait alone": replace(own, targets={WAIT: own.targets[WAIT]}),
        "processor alone": replace(own, targets={CPU: 0.7}),
        f"always {enough} replicas": fixed,
    }


def figures(day: Day) -> list[str]:
    if not day.latencies_s:
        raise SystemExit("nothing was answered")
    late = sum(one > LATE_S for one in day.latencies_s) / len(day.latencies_s)
    quantiles = [f"{1000 * percentile(day.latencies_s, q):.0f}" for q in (0.5, 0.95, 0.99)]
    hours = f"{day.replica_s / HOUR_S:.0f}"
    return [f"{day.texts:,}", hours, *quantiles, f"{late:.2%}", f"{day.refused:,}"]


def by_hour(day: Day) -> str:
    """The most replicas of each hour."""
    most: dict[int, int] = {}
    for at_s, replicas in day.replicas:
        hour = int(at_s / HOUR_S)
        most[hour] = max(most.get(hour, 0), replicas)
    return " ".join(map(str, most.values()))


if __name__ == "__main__":
    main()
