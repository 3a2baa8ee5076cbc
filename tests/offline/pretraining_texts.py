"""Texts to pretrain on, and the command that does it."""

from pathlib import Path

ADJECTIVES = ("red", "old", "small", "warm")
NOUNS = ("boat", "house", "river", "garden", "bridge")
TEXTS = [
    f"the {a} {n} is near the {b} {m}"
    for a in ADJECTIVES
    for b in ADJECTIVES
    for n in NOUNS
    for m in NOUNS
]


def command(folder: Path, output: str, *more: str) -> list[str]:
    data = folder / "texts.txt"
    data.write_text("\n".join(TEXTS), encoding="utf-8")
    return [
        *["pretrain", "new", "--data", str(data), "--output", str(folder / output)],
        *["--vocabulary-size", "200", "--hidden-size", "16", "--layers", "2", "--heads", "2"],
        *["--max-tokens", "16", "--batch-tokens", "256", "--epochs", "3", *more],
    ]
