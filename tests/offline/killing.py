"""A command of the workshop that is killed while it trains."""

import signal
import subprocess
import sys
from collections.abc import Sequence


def kill_on_its_way(arguments: Sequence[str]) -> None:
    """Start the command with a state saved at each step; SIGKILL it when it tells of some."""
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
        if "train: " in line:
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait(timeout=60) == -signal.SIGKILL, "".join(told)
