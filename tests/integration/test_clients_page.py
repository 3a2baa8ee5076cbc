"""Every block of docs/clients.md, run as it stands against a live server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import LiveServer

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [match.groups() for match in BLOCK.finditer(PAGE.read_text())]


@pytest.mark.parametrize(
    ("language", "code"), BLOCKS, ids=[code.partition("\n")[0][:40] for _, code in BLOCKS]
)
def test_block_of_the_clients_page_runs(server: LiveServer, language: str, code: str) -> None:
    assert "127.0.0.1:8080" in code
    code = code.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    if language == "sh":
        # -f: a status that is an error ends curl with one.
        code = 'set -euo pipefail\ncurl() { command curl -fsS "$@"; echo; }\n' + code
        command = ["bash", "-c", code]
    else:
        command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
