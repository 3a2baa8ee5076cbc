"""The report as one page of HTML that needs nothing else: no script, no foreign host."""

import base64
import html
from collections.abc import Mapping, Sequence
from string import Template

from service.offline.evaluation.evaluate import Mistake

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
# Title, a sentence, and a table if there is one.
Section = tuple[str, str, Table | None]

_PAGE = Template(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .5rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8886; padding: .25rem .75rem; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: .5rem; background: #fff; border-radius: 6px; }
img { display: block; max-width: 100%; }
</style></head><body>
$body
</body></html>
"""
)


def page_of(
    name: str,
    sections: Sequence[Section],
    pictures: Mapping[str, bytes],
    mistakes: Sequence[Mistake],
) -> str:
    """The sections, the pictures after the headline numbers, and the worst mistakes."""
    parts = [f"<h1>{html.escape(name)}</h1>"]
    for title, said, table in sections:
        parts.append(f"<h2>{html.escape(title)}</h2>")
        if said:
            parts.append(f"<p>{html.escape(said)}</p>")
        if table:
            parts.append(_html_table(table))
        if title == "How good it is":
            parts += [_picture(file, png) for file, png in pictures.items()]
    if mistakes:
        rows = [[m.text, m.truth, m.given, f"{m.confidence:.3f}"] for m in mistakes]
        parts.append("<h2>The mistakes it was surest of</h2>")
        parts.append(_html_table((("text", "true", "given", "score"), rows)))
    return _PAGE.substitute(title=html.escape(name), body="\n".join(parts))


def _html_table(table: Table) -> str:
    head, rows = table
    lines = ["<table>"]
    if any(head):
        lines.append("<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>")
    lines += ["<tr>" + "".join(_html_cell(cell) for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def _html_cell(cell: str) -> str:
    kind = ' class="n"' if cell[:1].isdigit() else ""
    return f"<td{kind}>{html.escape(cell)}</td>"


def _picture(file: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    alt = file.removesuffix(".png")
    return f'<figure><img alt="{alt}" src="data:image/png;base64,{data}"></figure>'
