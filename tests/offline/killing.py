"""A command of the workshop that is killed while it trains."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TENTHS = 7


def kill_on_its_way(arguments: Sequence[str]) -> None:
    """Start the command with a state saved at each step; SIGKILL it at seven tenths.

    By then it has looked at its dev split.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        told.append(line)
        if sum("train: " in one for one in told) == TENTHS:
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait(timeout=60) == -signal.SIGKILL, "".join(told)


def saved_step(state: Path) -> int:
    """How far the killed run came by its state on disk."""
    return int(json.loads((state / "state.json").read_bytes())["step"])


def first_step_told(output: str) -> int:
    """The first step that a run tells of: one that began anew tells of its first tenth."""
    return int(re.findall(r"train: (\d+)/", output)[0])
