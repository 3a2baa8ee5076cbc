"""What the command line teaches, completes, says of mistakes, and finds out about a machine."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from service.cli import app
from service.runtime.memory_limit import memory_limit_bytes
from service.store.files import describe

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
ROOT = Path(__file__).parents[2]


def shown(name: str) -> list[str]:
    """The examples under a command's help."""
    lines = (COMMANDS[name].epilog or "").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ ")]


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env=environment)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_shows_examples_that_parse(name: str) -> None:
    assert shown(name)
    for example in shown(name):
        words = [word for word in shlex.split(example) if not word.startswith("ENCSERVE_")]
        words = words[: words.index(">")] if ">" in words else words
        assert words[:2] == ["encserve", name]
        # Raises on an option or argument that the command lacks, or on one that it wants.
        COMMANDS[name].make_context(name, words[2:])
    assert shown(name)[0] in " ".join(run(name, "--help").output.split())


def test_tab_completes_commands_and_options() -> None:
    def completions(*words: str) -> list[str]:
        environment = os.environ | {
            "_ENCSERVE_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        command = [sys.executable, "-c", "from service.cli import app; app(prog_name='encserve')"]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()

    assert completions("encserve", "fine") == ["finetune"]
    assert {"--port", "--model-store"} <= set(completions("encserve", "serve", "--"))


def findings(store: Path, **environment: str) -> dict[str, dict[str, str]]:
    result = run("doctor", "--json", "--model-store", str(store), **environment)
    found = json.loads(result.output)
    assert result.exit_code == int(any(one["state"] == "wrong" for one in found))
    return {one["subject"]: one for one in found}


def test_doctor_finds_nothing_wrong_with_a_sound_store(tiny_store: Path) -> None:
    found = findings(tiny_store, ENCSERVE_PORT="0")
    assert {one["state"] for one in found.values()} <= {"ok", "note"}
    assert found["store"]["state"] == found["memory"]["state"] == "ok"
    for one in found.values():
        assert one["found"]
        assert bool(one["remedy"]) == (one["state"] == "note")
    text = run("doctor", "--model-store", str(tiny_store), ENCSERVE_PORT="0").output
    assert f"  ok store: {found['store']['found']}" in text


def test_doctor_names_a_damaged_model_and_spares_its_neighbour(
    tiny_store: Path, tmp_path: Path
) -> None:
    store = shutil.copytree(tiny_store, tmp_path / "store")
    weights = next((store / "sentiment").glob("*/*.onnx"))
    weights.write_bytes(weights.read_bytes()[:-1])
    found = findings(store)
    assert found["model sentiment"]["state"] == "wrong"
    assert "encserve rollback sentiment" in found["model sentiment"]["remedy"]
    assert found["model embedding"]["state"] != "wrong"


def test_doctor_says_how_to_fill_an_empty_store(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert found["store"]["state"] == "wrong"
    assert "encserve bootstrap" in found["store"]["remedy"]


def test_doctor_looks_at_what_the_settings_would_serve(tiny_store: Path, tmp_path: Path) -> None:
    store = shutil.copytree(tiny_store, tmp_path / "store")
    # A model that is not served may be damaged, and one that is asked for may be missing.
    weights = next((store / "sentiment").glob("*/*.onnx"))
    weights.write_bytes(weights.read_bytes()[:-1])
    found = findings(store, ENCSERVE_MODELS="embedding@1,embedding@7")
    assert "model sentiment" not in found
    assert found["model embedding@1"]["state"] != "wrong"
    assert found["model embedding@7"]["state"] == "wrong"
    assert "ENCSERVE_MODELS" in found["model embedding@7"]["remedy"]
    found = findings(store, ENCSERVE_MODELS="embedding", ENCSERVE_VARIANT="int7")
    assert found["model embedding"]["state"] == "wrong"
    assert "ENCSERVE_VARIANT" in found["model embedding"]["remedy"]


def test_doctor_weighs_the_variant_that_is_served(tiny_store: Path, tmp_path: Path) -> None:
    store = shutil.copytree(tiny_store, tmp_path / "store")
    folder = store / "embedding" / "1"
    with (folder / "model.int8.onnx").open("wb") as weights:
        weights.truncate(2**28)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["model.int8.onnx"] = describe(folder / "model.int8.onnx").model_dump()
    manifest["variants"]["int8"] = {"file": "model.int8.onnx"}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    def needed_gib(variant: str) -> float:
        found = findings(store, ENCSERVE_MODELS="embedding", ENCSERVE_VARIANT=variant)
        return float(found["memory"]["found"].split("about ")[1].split()[0])

    assert needed_gib("int8") - needed_gib("fp32") == pytest.approx(0.25, abs=0.11)


def test_doctor_says_that_what_tuning_found_cannot_be_read(
    tiny_store: Path, tmp_path: Path
) -> None:
    store = shutil.copytree(tiny_store, tmp_path / "store")
    (store / "embedding" / "tuning.json").write_text("[")
    found = findings(store)["model embedding"]
    assert found["state"] == "note"
    assert "tuning.json is not what" in found["found"]
    assert "encserve tune embedding" in found["remedy"]


def test_doctor_passes_over_a_distribution_without_a_name(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_removed-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert findings(tiny_store)["packages"]["state"] == "ok"


def test_doctor_sees_that_the_port_is_taken(tiny_store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = findings(tiny_store, ENCSERVE_PORT=str(taken.getsockname()[1]))
    assert found["port"]["state"] == "note"
    assert "--port" in found["port"]["remedy"]


def test_doctor_sees_more_workers_than_cores(tiny_store: Path) -> None:
    found = findings(tiny_store, ENCSERVE_WORKERS="250")
    assert found["cores"]["state"] == "note"
    assert "250 workers" in found["cores"]["found"]


def test_memory_of_the_control_group_counts_if_it_is_less(tmp_path: Path) -> None:
    machine = memory_limit_bytes(tmp_path)
    assert machine > 2**28
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit_bytes(tmp_path) == machine
    (tmp_path / "memory.max").write_text("1048576\n")
    assert memory_limit_bytes(tmp_path) == 2**20


def test_wrong_setting_is_one_sentence_with_a_remedy_and_without_its_value() -> None:
    command = [sys.executable, "-m", "service.cli", "models"]
    environment = os.environ | {"ENCSERVE_PORT": "tell-nobody"}
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1
    said = " ".join(ran.stderr.split())
    assert said.startswith("error (invalid_setting): ENCSERVE_PORT should be a valid integer")
    assert "`encserve settings`" in said
    assert "tell-nobody" not in said
