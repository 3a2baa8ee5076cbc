"""docs/licenses.md: the licences of all that is locked, as the packages themselves state them.

    python requirements/licenses.py PIP_LICENSES PYTHON > docs/licenses.md

PIP_LICENSES is the tool, PYTHON the interpreter that everything is installed for.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

HEAD = """\
# Licences of dependencies

What each package states of itself; `make licenses` writes this page from what is installed.
encserve itself is under Apache-2.0. CUDA builds of torch bring further packages of NVIDIA's.
"""
TABLE = "\n| package | version | licence |\n|---|---|---|"
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


def locked(file: Path) -> dict[str, str]:
    """Versions by normalized name."""
    return {normalized(name): version for name, version in _PINNED.findall(file.read_text())}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(tool: str, python: str) -> None:
    command = [tool, "--python", python, "--from", "mixed", "--format", "json", "--with-system"]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    found = {normalized(one["Name"]): one for one in listed}
    server = locked(HERE / "server.txt")
    offline = locked(HERE / "offline.txt") | locked(HERE / "torch.txt")
    print(HEAD, end="\n")
    print("## Server", TABLE, _rows(server, found), sep="\n", end="")
    beside = {name: offline[name] for name in offline.keys() - server.keys()}
    print("\n## Offline, beside these", TABLE, _rows(beside, found), sep="\n", end="")


def _rows(versions: dict[str, str], found: dict[str, dict[str, str]]) -> str:
    return "".join(
        f"| {name} | {version} | {found[name]['License']} |\n"
        for name, version in sorted(versions.items())
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
