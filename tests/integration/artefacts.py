"""Ways to spoil a published version: its files, its manifest, its signature.

Each takes the folder of a version. Graphs are spoilt by `graphs`.
"""

import json
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import tokenizers

Damage = Callable[[Path], object]


def cut(name: str, share: float) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        os.truncate(path, int(path.stat().st_size * share))

    return damage


def lengthen(name: str) -> Damage:
    def damage(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.write(b"x")

    return damage


def flip(name: str) -> Damage:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return damage


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def add(name: str | bytes, content: bytes = b"x") -> Damage:
    def damage(folder: Path) -> None:
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    return damage


def move(name: str, to: str) -> Damage:
    return lambda folder: (folder / name).rename(folder / to)


def soft_link(name: str) -> Damage:
    def damage(folder: Path) -> None:
        elsewhere = (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(elsewhere)

    return damage


def hard_link(name: str) -> Damage:
    return lambda folder: os.link(folder / name, folder.parent / "elsewhere")


def special(name: str, kind: int) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mknod(folder / name, kind | 0o600)

    return damage


def fifo(name: str) -> Damage:
    return special(name, stat.S_IFIFO)


def socket(name: str) -> Damage:
    return special(name, stat.S_IFSOCK)


def folder_instead(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def pointer(content: bytes) -> Damage:
    return lambda folder: (folder.parent / "current").write_bytes(content)


def manifest(edit: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "manifest.json"
        said = json.loads(path.read_text())
        edit(said)
        path.write_text(json.dumps(said))

    return damage


def stated(**fields: object) -> Damage:
    return manifest(lambda said: said.update(fields))


def without(field: str) -> Damage:
    return manifest(lambda said: said.pop(field))


def file_entry(name: str, **fields: object) -> Damage:
    return manifest(lambda said: said["files"].setdefault(name, {}).update(fields))


def relist(folder: Path) -> None:
    """Write the folder's files into its manifest, as they are."""

    def edit(said: dict[str, Any]) -> None:
        names = {path.name for path in folder.iterdir()} - {"manifest.json", "manifest.sig"}
        said["files"] = {
            name: {
                "bytes": (folder / name).stat().st_size,
                "sha256": sha256((folder / name).read_bytes()).hexdigest(),
            }
            for name in sorted(names)
        }

    manifest(edit)(folder)


def listed(*damages: Damage) -> Damage:
    """The damages, and then a manifest that lists the files as they are."""

    def damage(folder: Path) -> None:
        for one in damages:
            one(folder)
        relist(folder)

    return damage


def vocabulary(change: Callable[[dict[str, int]], dict[str, int]]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "tokenizer.json"
        said = json.loads(path.read_text())
        said["model"]["vocab"] = change(said["model"]["vocab"])
        path.write_text(json.dumps(said))
        tokenizers.Tokenizer.from_file(str(path))

    return listed(damage)


def golden(edit: Callable[[list[dict[str, Any]]], object]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "golden.json"
        texts = json.loads(path.read_text())
        edit(texts)
        path.write_text(json.dumps(texts))

    return listed(damage)
