"""All that watches encserve, run for real: the server, Prometheus, dashboards, rules, alerts.

    python -m monitoring.observe [--pictures docs/images]

Prometheus runs with the very files of docker/prometheus/, but for the address of the target. About
five minutes: alerts wait before they fire. Fails if a panel has no data, if Prometheus counts
anything else than what was sent, or if an alert that was provoked does not fire.
"""

import argparse
import asyncio
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import httpx2

from benchmarks.common import STORE, machine, mixed_texts
from monitoring.counted import Count, counts
from monitoring.grafana import FOLDER
from monitoring.picture import draw
from monitoring.prometheus import CONFIGURATION, Prometheus
from monitoring.scene import ADMIN_KEY, CALLERS, Scene, play, watched_server
from monitoring.seen import Seen, look
from monitoring.traffic import Callers, Sent

# Clients and seconds: a quiet time, a busy one, a crowd, and quiet again.
WAVES = ((2, 20.0), (8, 25.0), (24, 25.0), (6, 20.0))
# Requests at once, texts in each: the queue takes a few of them.
CROWD = (60, 100)
CROWDS = 3
SETTINGS = {"ENCSERVE_MAX_QUEUE_TOKENS": "20000", "ENCSERVE_DRAIN_S": "1"}
# A server that is gone has no failed load: rules must be evaluated before.
PROVOKED_WHILE_UP = ("EncserveModelLoadFailed",)
# The server's end is one of them.
PROVOKED = (*PROVOKED_WHILE_UP, "EncserveAvailabilityBurnsFast", "EncserveDown")
ALERTS_TIMEOUT_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each dashboard")
    options = parser.parse_args()
    print(f"{machine()}\n")
    promtool("check", "config", str(CONFIGURATION / "prometheus.yml"))
    promtool("test", "rules", *map(str, sorted((CONFIGURATION / "tests").glob("*.yml"))))
    with watched_server(options.store, SETTINGS) as scene:
        sent = asyncio.run(traffic(scene))
        scraped_s = scene.wait_until_all_is_scraped()
        promtool("check", "metrics", page=httpx2.get(f"{scene.url}/metrics").text)
        found = list(counts(scene.prometheus, sent, scene.versions.shadow, scraped_s))
        seen = {file: list(look(scene.prometheus, file, scene.window()))
                for file in sorted(FOLDER.glob("*.json"))}  # fmt: skip
        told = list(problems(found, [one for panels in seen.values() for one in panels]))
        report_counts(found)
        report_panels([one for panels in seen.values() for one in panels])
        for file, panels in seen.items():
            if options.pictures:
                into = options.pictures / f"{file.stem.replace('encserve', 'dashboard')}.png"
                draw(file, panels, into)
        wait_for_alerts(scene.prometheus, PROVOKED_WHILE_UP)
        print(f"server stopped with status {scene.stop_server()}; waiting for alerts", flush=True)
        states = wait_for_alerts(scene.prometheus, PROVOKED)
        report_alerts(states)
    told += [f"{name} did not fire" for name in PROVOKED if states[name] != "firing"]
    if told:
        raise SystemExit("\n" + "\n".join(told))
    print("\nevery panel has data, every count is exact, every provoked alert fires")


async def traffic(scene: Scene) -> Sent:
    callers = Callers(scene.url, mixed_texts(None), CALLERS, ADMIN_KEY)
    try:
        await play(scene, callers, WAVES, CROWD)
        for _ in range(CROWDS - 1):
            await callers.crowd(*CROWD)
    finally:
        await callers.close()
    return callers.sent


def promtool(*arguments: str, page: str | None = None) -> None:
    """Run it, and say so.

    Raises:
        SystemExit: it has something to say.
    """
    command = shutil.which("promtool")
    if command is None:
        raise SystemExit("promtool is missing: apt-get install prometheus")
    done = subprocess.run(
        [command, *arguments], input=page, capture_output=True, text=True, check=False
    )
    if done.returncode or (page is not None and done.stderr):
        raise SystemExit(done.stdout + done.stderr)
    print(f"promtool {arguments[0]} {arguments[1]}: nothing to complain about", flush=True)


def wait_for_alerts(prometheus: Prometheus, names: Sequence[str]) -> dict[str, str]:
    """The furthest that each alert came, once those of `names` fire or time is over."""
    with suppress(TimeoutError):
        prometheus.wait_for(
            lambda: all(furthest(prometheus)[name] == "firing" for name in names),
            ALERTS_TIMEOUT_S,
            "the provoked alerts fire",
            look_every_s=1,
        )
    return furthest(prometheus)


def furthest(prometheus: Prometheus) -> dict[str, str]:
    """By alert: `inactive`, `pending` or `firing`, whichever came last in this order."""
    states = {alert.name: "inactive" for alert in prometheus.alerts()}
    for state in ("pending", "firing"):
        for labels in prometheus.labels(f'max_over_time(ALERTS{{alertstate="{state}"}}[1h])'):
            states[labels["alertname"]] = state
    return states


def problems(found: Sequence[Count], seen: Sequence[Seen]) -> Iterator[str]:
    """What is not as it should be, one line each."""
    for count in found:
        if count.found != count.sent:
            yield f"{count.query}: sent {count.sent:g}, Prometheus has {count.found:g}"
    for one in seen:
        if one.empty:
            yield f"{one.board}, {one.panel}: no data for {one.without_data or one.query}"


def report_counts(found: Sequence[Count]) -> None:
    print(f"\n{len(found)} counts, sent and found:\n\n| query | sent | found |\n|---|---:|---:|")
    for count in found:
        print(f"| `{count.query}` | {count.sent:g} | {count.found:g} |")


def report_panels(seen: Sequence[Seen]) -> None:
    print("\n| dashboard | panel | legend | series | least | most | last |")
    print("|---|---|---|---:|---:|---:|---:|")
    for one in seen:
        numbers = one.values or [float("nan")]
        cells = (one.board, one.panel, one.legend, str(len(one.series)))
        figures = (min(numbers), max(numbers), numbers[-1])
        print("| " + " | ".join([*cells, *(f"{figure:.4g}" for figure in figures)]) + " |")
    panels = Counter((one.board, one.panel) for one in seen)
    print(f"\n{len(panels)} panels, {len(seen)} queries", flush=True)


def report_alerts(states: dict[str, str]) -> None:
    print("\n| alert | came to be |\n|---|---|")
    for name, state in sorted(states.items()):
        print(f"| {name} | {state}{' (provoked)' if name in PROVOKED else ''} |")


if __name__ == "__main__":
    main()
