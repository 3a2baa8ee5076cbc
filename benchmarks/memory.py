"""What a session of onnxruntime holds after short and large runs, with and without shrinking.

    python -m benchmarks.memory [--model embedding] [--variants fp32 int8]

Each column is a process of its own that makes the runs in the order of the table; memory is what
the process holds of the machine's (PSS), after a run of each kind. The model must have
positions for 512 tokens.
"""

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

from benchmarks.common import STORE, load_encoder, machine
from service.runtime import session as runtime

# Lengths in tokens of the texts of one run.
RUNS = {
    "1 text of 512 tokens": [512],
    "16 texts of 8": [8] * 16,
    "32 texts of 128": [128] * 32,
    "32 texts of 512": [512] * 32,
    "1 text of 8": [8],
}
REPEATS = 1
NEVER = 10**9
# Runs of more tokens than that are followed by shrinking.
THRESHOLDS = {"as it is": NEVER, "shrunk": runtime.LARGE_RUN_TOKENS, "always shrunk": 0}
LEAST_TOKEN_ID, MOST_TOKEN_ID = 1000, 20_000


def held_mib() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def measure(model: str, variant: str, threshold: int) -> list[float]:
    """Memory in MiB with the session opened, then after each of `RUNS`; in this process."""
    runtime.LARGE_RUN_TOKENS = threshold
    encoder, _, _ = load_encoder(STORE, model, variant)
    chance = random.Random(0)
    held = [held_mib()]
    for lengths in RUNS.values():
        for _ in range(REPEATS):
            token_ids = (chance.randint(LEAST_TOKEN_ID, MOST_TOKEN_ID) for _ in lengths)
            encoder([[one] * length for one, length in zip(token_ids, lengths, strict=True)])
        held.append(held_mib())
    return held


def column(model: str, variant: str, threshold: int) -> list[float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--model", model]
    command += ["--variants", variant, "--threshold", str(threshold)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return [float(number) for number in result.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--variants", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--threshold", type=int, help="measure in this process, print numbers")
    asked = parser.parse_args()
    if asked.threshold is not None:
        print(*measure(asked.model, asked.variants[0], asked.threshold))
        return
    columns = {
        f"{variant}, {name}": column(asked.model, variant, threshold)
        for variant in asked.variants
        for name, threshold in THRESHOLDS.items()
    }
    print(f"{machine()}\n")
    print(f"| MiB after | {' | '.join(columns)} |")
    print(f"|---|{'---:|' * len(columns)}")
    for row, name in enumerate(["session opened", *RUNS]):
        print(f"| {name} | {' | '.join(f'{held[row]:,.0f}' for held in columns.values())} |")


if __name__ == "__main__":
    main()
