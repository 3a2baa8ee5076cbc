"""One folder a version: metrics.json, pictures, MODEL_CARD.md, and all of it in report.html."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.offline.evaluation.evaluate import Evaluation, finite
from service.offline.evaluation.mistakes import SIZES
from service.offline.evaluation.page import page_of
from service.offline.evaluation.plots import plots_of
from service.offline.evaluation.sections import Section, Table, sections_of
from service.store.manifest import ManifestFields


def write_report(
    folder: Path,
    fields: ManifestFields,
    name: str,
    evaluation: Evaluation,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write the files of the report into `folder`, which is made.

    Texts of the data stand in `report.html` only.

    Args:
        training: how it was trained: settings, texts of each part, what was dropped, the looks at
            the dev split. None for a model that was not trained here; the rows are then not said
            to have been held out.
    """
    training = training or {}
    folder.mkdir(parents=True, exist_ok=True)
    found = {"measured": evaluation.as_json(), "training": finite(training)}
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    pictures = plots_of(evaluation)
    for file, png in pictures.items():
        (folder / file).write_bytes(png)
    sections = list(sections_of(fields, name, evaluation, training))
    (folder / "MODEL_CARD.md").write_text(_card(name, sections), encoding="utf-8")
    page = page_of(name, sections, pictures, evaluation.mistakes, SIZES[fields.problem_type])
    (folder / "report.html").write_text(page, encoding="utf-8")


def _card(name: str, sections: Sequence[Section]) -> str:
    parts = [f"# {name}"]
    for section in sections:
        parts += [
            f"## {section.title}",
            *([section.said] if section.said else []),
            *([f"```\n{section.code}\n```"] if section.code else []),
            *([_markdown(section.table)] if section.table else []),
        ]
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Labels are data: neither a cell's end nor HTML that a viewer of Markdown would obey."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return escaped.replace("\n", " ")
