"""What `encserve` is in the pages' blocks: the real one, on a tiny base and a free port.

`serve` starts a server that goes on, instead of the one before; its URL stands in `serve.url`.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

REAL = [sys.executable, "-m", "service.cli"]
READY = re.compile(r"encserve is ready on (http://\S+);")
# Options that name the base, and where it lies beside the page's files.
BASES = {"finetune": "--base", "train-embedding": "--base", "bootstrap": ""}
TINY = Path("tiny-base")
PID, URL, LOG = Path("serve.pid"), Path("serve.url"), Path("serve.log")


def main(arguments: list[str]) -> int:
    command, *options = arguments
    if command == "serve":
        return serve(options)
    if command == "bootstrap":
        # The page's store holds both default models, tiny ones.
        return subprocess.call([*REAL, *arguments])
    if (option := BASES.get(command)) and option not in options and TINY.exists():
        options += [option, str(TINY)]
    if TINY.exists():
        # Sizes of vectors that the tiny base has as well.
        options = ["4,8,12" if one == "64,128,256" else one for one in options]
    if command in ("top", "promote") and URL.exists():
        options += [URL.read_text()] if command == "top" else ["--server", URL.read_text()]
    return subprocess.call([*REAL, command, *options])


def serve(options: list[str]) -> int:
    stop()
    with LOG.open("w") as log:
        process = subprocess.Popen(
            [*REAL, "serve", "--port", "0", *options],
            env={**os.environ, "ENCSERVE_DRAIN_S": "0", "ENCSERVE_PROBE": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    PID.write_text(str(process.pid))
    give_up_s = time.monotonic() + 60
    while not (found := READY.search(LOG.read_text())):
        if process.poll() is not None or time.monotonic() > give_up_s:
            print(LOG.read_text(), file=sys.stderr)
            return 1
    URL.write_text(found[1])
    return 0


def stop() -> None:
    """End the server that a block has started."""
    if PID.exists():
        pid = int(PID.read_text())
        PID.unlink()
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
