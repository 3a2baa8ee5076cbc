"""The report as one page of HTML that needs nothing else: no script, no foreign host."""

import base64
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from string import Template

from service.offline.evaluation.mistakes import Mistake
from service.offline.evaluation.sections import Section, Table

_PAGE = Template(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; }
table { border-collapse: collapse; margin: .75rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8886; padding: .25rem 1rem .25rem 0; text-align: left;
  vertical-align: top; overflow-wrap: break-word; }
td.f { overflow-wrap: anywhere; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { background: #8882; border-radius: 6px; padding: .75rem 1rem; overflow-x: auto; }
.pictures { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; background: #fff; border-radius: 6px; padding: .25rem; }
img { display: block; width: 100%; }
</style></head><body>
$body
</body></html>
"""
)
# A number, or one with its interval: 1,234 or 0.951 [0.930, 0.968].
_NUMERIC = re.compile(r"[-+\d.,\[\] ]+")


def page_of(
    name: str,
    sections: Sequence[Section],
    pictures: Mapping[str, bytes],
    mistakes: Sequence[Mistake],
    size: str,
) -> str:
    """The sections, the pictures after the section that shows them, and the worst mistakes.

    size: what stands over the mistakes' sizes.
    """
    parts = [f"<h1>{html.escape(name)}</h1>"]
    for section in sections:
        parts += _section(section)
        if section.shows and pictures:
            figures = "".join(_picture(file, png) for file, png in pictures.items())
            parts.append(f'<div class="pictures">{figures}</div>')
    if mistakes:
        rows = [[m.text, m.truth, m.given, f"{m.size:.3f}"] for m in mistakes]
        parts.append("<h2>Its worst mistakes</h2>")
        parts.append(_table((("text", "true", "given", size), rows)))
    return _PAGE.substitute(title=html.escape(name), body="\n".join(parts))


def _section(section: Section) -> Iterator[str]:
    yield f"<h2>{html.escape(section.title)}</h2>"
    if section.said:
        # What stands between backticks is code, as in the card.
        said = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(section.said))
        yield f"<p>{said}</p>"
    if section.code:
        yield f"<pre>{html.escape(section.code)}</pre>"
    if section.table:
        yield _table(section.table)


def _table(table: Table) -> str:
    head, rows = table
    is_facts = not any(head)
    names = "" if is_facts else "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = ["".join(_cell(cell, is_facts) for cell in row) for row in rows]
    return "\n".join(
        ["<table>", *(f"<tr>{line}</tr>" for line in (names, *lines) if line), "</table>"]
    )


def _cell(cell: str, is_fact: bool) -> str:
    """Facts may be broken anywhere, as digests are longer than a small screen is wide."""
    kind = ' class="f"' if is_fact else ' class="n"' if _NUMERIC.fullmatch(cell) else ""
    return f"<td{kind}>{html.escape(cell)}</td>"


def _picture(file: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    alt = file.removesuffix(".png")
    return f'<figure><img alt="{alt}" src="data:image/png;base64,{data}"></figure>'
