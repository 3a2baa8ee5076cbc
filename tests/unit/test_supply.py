"""What is installed is what is locked, and all of it is named: pins, hashes, licences, parts."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = {
    "server": PROJECT["dependencies"],
    "offline": PROJECT["dependencies"] + PROJECT["optional-dependencies"]["offline"],
}
# Its builds have other bytes each, see requirements/torch.txt.
UNLOCKED = {"torch"}
# `pip freeze` passes over it.
UNFROZEN = {"setuptools"}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: str) -> dict[str, str]:
    """Versions by name; of a lock, each must have hashes."""
    found = {}
    text = (ROOT / path).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            pinned, *hashes = line.split("--hash=sha256:")
            name, _, version = pinned.strip().partition("==")
            found[normalized(name)] = version.strip()
            if path.startswith("requirements/"):
                assert hashes, f"{name} has no hash"
                assert all(re.fullmatch(r"[0-9a-f]{64}", one.strip()) for one in hashes)
    return found


@pytest.mark.parametrize("half", WANTED)
def test_lock_holds_what_the_project_asks_for_at_the_versions_that_are_tested(half: str) -> None:
    locked = pins(f"requirements/{half}.txt")
    constraints = pins("constraints.txt")
    for written in WANTED[half]:
        wanted = Requirement(written)
        if normalized(wanted.name) not in UNLOCKED:
            assert wanted.specifier.contains(locked[normalized(wanted.name)]), "run: make lock"
    frozen = {name: version for name, version in locked.items() if name not in UNFROZEN}
    assert {name: constraints.get(name) for name in frozen} == frozen, "run: make lock"


def test_offline_half_locks_the_server_too() -> None:
    server, offline = pins("requirements/server.txt"), pins("requirements/offline.txt")
    assert server.items() <= offline.items()
    assert "torch" not in offline
    assert (ROOT / "requirements/torch.txt").read_text().splitlines()[-1] == "torch==" + (
        pins("constraints.txt")["torch"]
    )


def test_locks_name_no_index() -> None:
    for half in WANTED:
        assert not re.search(
            r"://|--(index|find|extra)", (ROOT / f"requirements/{half}.txt").read_text()
        )


def test_licence_of_every_dependency_is_listed() -> None:
    page = (ROOT / "docs/licenses.md").read_text()
    listed = dict(re.findall(r"^\| (\S+) \| (\S+) \| \S.* \|$", page, re.MULTILINE))
    locked = pins("requirements/offline.txt") | {"torch": pins("constraints.txt")["torch"]}
    assert {name: listed.get(name) for name in locked} == locked, "run: make licenses"
    assert "UNKNOWN" not in page


def test_bill_of_materials_names_every_part_of_the_server() -> None:
    bill = json.loads((ROOT / "docs/sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    parts = {normalized(one["name"]): one["version"] for one in bill["components"]}
    assert parts == pins("requirements/server.txt"), "run: make sbom"


def test_images_install_by_hash() -> None:
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    for half in WANTED:
        assert re.search(rf"--no-deps --require-hashes -r {half}\.txt", dockerfile)
