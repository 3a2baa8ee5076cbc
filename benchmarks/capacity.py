"""From texts a second to cores, memory, replicas and money, and what gives way first.

    python -m benchmarks.capacity --sheet sheet.json [--texts-per-s 1000 100000 10000000]
        [--cores 8] [--busy 0.7] [--price PRICE_OF_A_CORE_HOUR] [--network-gbit 10]

`sheet.json` is what `python -m benchmarks.costs --out sheet.json` measured on a machine of the kind
that is meant. Nothing here is measured: it multiplies.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import print_table
from benchmarks.sheet import Sheet, per_text, read_sheet

LOADS = (1e3, 1e5, 1e7)


@dataclass(frozen=True)
class Need:
    """What a load takes. loops: event loops kept busy; balancers: their threads kept busy."""

    cores: float
    replicas: int
    memory_gib: float
    core_hours_a_million: float
    loop_busy: float
    balancers: float
    gbit_per_s: float

    def first_to_give_way(self, network_gbit: float) -> str:
        """What has the least in reserve besides the cores, which grow with the replicas."""
        shares = {
            "event loop of a replica (JSON, tokens, HTTP)": self.loop_busy,
            "balancer, one thread": self.balancers,
            "network of the balancer": self.gbit_per_s / network_gbit,
        }
        name = max(shares, key=shares.__getitem__)
        return f"{name}: {shares[name]:.0%}"


def need_of(sheet: Sheet, kind: str, texts_per_s: float, cores: int, busy: float) -> Need:
    """For texts like those of `kind`, on replicas of so many cores, each kept `busy`.

    A replica has one event loop, which is one of the threads that its cores run.
    """
    shape = sheet.traffic[kind]
    run_s, loop_s = per_text(sheet.costs, shape)
    whole = texts_per_s * (run_s + loop_s) / busy
    # A replica does what its cores allow, or what its event loop does.
    by_cores = cores * busy / (run_s + loop_s)
    by_loop = busy / loop_s
    replicas = max(1, math.ceil(round(texts_per_s / min(by_cores, by_loop), 6)))
    return Need(
        cores=whole,
        replicas=replicas,
        memory_gib=replicas * sheet.memory_mib / 1024,
        core_hours_a_million=1e6 * (run_s + loop_s) / busy / 3600,
        loop_busy=texts_per_s / replicas * loop_s,
        balancers=texts_per_s / shape.texts * sheet.balancer_s,
        gbit_per_s=texts_per_s * (shape.bytes_in + shape.bytes_out) * 8 / 1e9,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--texts-per-s", type=float, nargs="+", default=LOADS)
    parser.add_argument("--cores", type=int, default=8, help="of a replica")
    parser.add_argument("--busy", type=float, default=0.7, help="share of a core that may be used")
    parser.add_argument("--price", type=float, help="of a core for an hour, in any currency")
    parser.add_argument("--network-gbit", type=float, default=10)
    options = parser.parse_args()
    sheet = read_sheet(options.sheet)
    rows = []
    for texts_per_s in options.texts_per_s:
        for kind in sheet.traffic:
            need = need_of(sheet, kind, texts_per_s, options.cores, options.busy)
            hourly = need.cores * options.price if options.price else None
            rows.append(
                [
                    *(f"{texts_per_s:,.0f}", kind, f"{need.cores:,.1f}", f"{need.replicas:,}"),
                    *(f"{need.memory_gib:,.1f}", f"{need.core_hours_a_million:.2f}"),
                    f"{need.cores:,.1f} x price" if hourly is None else f"{hourly:,.2f}",
                    *(f"{need.loop_busy:.0%}", f"{need.balancers:,.2f}", f"{need.gbit_per_s:,.2f}"),
                    need.first_to_give_way(options.network_gbit),
                ]
            )
    head = ["texts/s", "texts", "cores", "replicas", "GiB", "core hours a million", "an hour"]
    head += ["event loop of each", "balancer threads", "Gbit/s", "gives way first"]
    print(f"Replicas of {options.cores} cores, {options.busy:.0%} busy\n")
    print_table(head, rows, names=2)


if __name__ == "__main__":
    main()
