"""The commands of docs/models.md, one after the other, in a store of tiny models."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_commands_of_the_models_page_run_in_their_order(tiny_store: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_store, tmp_path / "model_store")
    root = Path(__file__).parents[2]
    encserve = f'encserve() {{ PYTHONPATH={root} "{sys.executable}" -m service.cli "$@"; }}\n'
    script = "set -euo pipefail\n" + encserve + "".join(BLOCK.findall(PAGE.read_text()))
    ran = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert "every version is whole" in ran.stdout
