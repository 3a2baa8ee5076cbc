"""A sentiment dashboard from a CSV: `sentiment_dashboard.py examples/reviews.csv out.html`.

Takes the column `review` (or the one that --text names), asks the server for the sentiment of all
rows, and writes one page that needs nothing else: a bar a group for each other column of few
values, and the clearest voices of both kinds. Texts are escaped; nothing in the page runs.
"""

import argparse
import csv
import html
import os
from collections import Counter
from pathlib import Path

import httpx

URL = os.environ.get("ENCSERVE_URL", "http://127.0.0.1:8080")
TEXTS_A_REQUEST = 256
MOST_GROUPS = 24
VOICES = 3
COLOURS = {"negative": "#c0392b", "neutral": "#95a5a6", "positive": "#1e8449"}

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Sentiment of {name}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
td {{ padding: .2rem .8rem .2rem 0 }} td.n {{ text-align: right }} svg {{ display: block }}
</style>
<h1>Sentiment of {name}</h1>
<p>{count} texts: {summary}.</p>
{groups}
<h2>Clearest praise</h2><ul>{praise}</ul>
<h2>Clearest complaints</h2><ul>{complaints}</ul>
</html>
"""


def sentiments(texts: list[str]) -> list[dict]:
    """The server's answer for each text, in order."""
    found = []
    for start in range(0, len(texts), TEXTS_A_REQUEST):
        asked = {"input": texts[start : start + TEXTS_A_REQUEST]}
        answer = httpx.post(f"{URL}/v1/sentiment", json=asked, timeout=60)
        answer.raise_for_status()
        found += answer.json()["data"]
    return found


def bar(labels: list[str]) -> str:
    """An SVG bar of 300 pixels, a piece a label."""
    counts, pieces, x = Counter(labels), [], 0.0
    for label, colour in COLOURS.items():
        width = 300 * counts[label] / len(labels)
        title = f"<title>{label}: {counts[label]}</title>"
        shape = f'x="{x:.1f}" width="{width:.1f}" height="18" fill="{colour}"'
        pieces.append(f"<rect {shape}>{title}</rect>")
        x += width
    return f'<svg width="300" height="18" role="img">{"".join(pieces)}</svg>'


def table(rows: list[dict], column: str) -> str:
    """A bar for each value of a column; empty if there are too many, or only one."""
    values = sorted({row[column] for row in rows})
    if not 1 < len(values) <= MOST_GROUPS:
        return ""
    lines = []
    for value in values:
        labels = [row["_"]["label"] for row in rows if row[column] == value]
        cells = f"<td>{html.escape(value)}</td><td>{bar(labels)}</td>"
        lines.append(f'<tr>{cells}<td class="n">{len(labels)}</td></tr>')
    return f"<h2>By {html.escape(column)}</h2><table>{''.join(lines)}</table>"


def voices(rows: list[dict], text: str, sign: int) -> str:
    """The texts with the largest compound of this sign."""
    ranked = sorted(rows, key=lambda row: -sign * row["_"]["compound"])[:VOICES]
    clear = (row for row in ranked if sign * row["_"]["compound"] > 0)
    return "".join(f"<li>{html.escape(row[text])}</li>" for row in clear)


def main(source: Path, target: Path, text: str) -> None:
    with source.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row.get(text) or "").strip()]
    if not rows:
        raise SystemExit(f"{source} has no texts in a column {text!r}: name it by --text")
    for row, sentiment in zip(rows, sentiments([row[text] for row in rows]), strict=True):
        row["_"] = sentiment
    counts = Counter(row["_"]["label"] for row in rows)
    summary = ", ".join(f"{counts[label]} {label}" for label in COLOURS)
    columns = [column for column in rows[0] if column not in (text, "_")]
    page = PAGE.format(
        name=html.escape(source.name),
        count=len(rows),
        summary=summary,
        groups="".join(table(rows, column) for column in columns),
        praise=voices(rows, text, +1),
        complaints=voices(rows, text, -1),
    )
    target.write_text(page)
    print(f"{len(rows)} texts, {summary}: {target}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="CSV with a column of texts")
    parser.add_argument("target", type=Path, help="HTML file to write")
    parser.add_argument("--text", default="review", help="name of that column")
    arguments = parser.parse_args()
    main(arguments.source, arguments.target, arguments.text)
