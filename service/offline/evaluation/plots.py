"""Pictures of an evaluation, as PNG: no global state, no window, colours for all eyes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from service.offline.evaluation.calibration import BINS
from service.offline.evaluation.evaluate import Evaluation

# Blue and orange of Okabe and Ito's palette.
BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#999999", "#222222"
SIZE_INCHES = (5.2, 4.2)
DPI = 110
LONGEST_LABEL = 18
MOST_NUMBERED = 12


def plots_of(evaluation: Evaluation) -> dict[str, bytes]:
    """File name to picture: those that the measures have something for."""
    measures, answers = evaluation.measures, evaluation.answers
    figures: dict[str, Figure] = {}
    if "confusion" in measures:
        figures["confusion.png"] = confusion(list(measures["labels"]), measures["confusion"])
    if "reliability" in measures:
        # Of many labels each label is an answer, and the share is of texts that have it.
        words = ("right", "wrong") if "confusion" in measures else ("has it", "has it not")
        figures["reliability.png"] = reliability(measures, words[0])
        figures["confidence.png"] = confidence(answers.confidence, answers.right, words)
    if "by_length" in measures:
        figures["length.png"] = by_length(measures["by_length"], "right", "share right")
    if "error_by_length" in measures:
        figures["length.png"] = by_length(
            measures["error_by_length"], "mean_absolute_error", "mean absolute error"
        )
    if answers.given:
        figures["scatter.png"] = scatter(answers.truth, answers.given)
    return {name: _png(figure) for name, figure in figures.items()}


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """Rows are the truth, columns the answers; shades are shares of a row."""
    figure = _figure("What was given for what")
    axes = figure.subplots()
    cells = np.array(counts)
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_short(label) for label in labels]
    size = 9 if len(labels) <= MOST_NUMBERED else 5
    axes.set_xticks(range(len(labels)), names, rotation=90 if size < 9 else 30, ha="right",
                    rotation_mode="anchor", fontsize=size)  # fmt: skip
    axes.set_yticks(range(len(labels)), names, fontsize=size)
    axes.set(xlabel="given", ylabel="true")
    # Numbers of more cells could not be read.
    for (row, column), count in np.ndenumerate(cells) if size == 9 else ():
        shade = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count}", ha="center", va="center", color=shade)
    return _clean(figure)


def _short(label: str) -> str:
    """A `$` would start a formula."""
    cut = label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
    return cut.replace("$", r"\$")


def reliability(measures: Mapping[str, Any], word: str = "right") -> Figure:
    """Share right against score, on the diagonal where scores are honest; below, texts by bin."""
    figure = _figure(
        f"Scores against truth (calibration error {measures['calibration_error']:.3f})"
    )
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    counts, means, shares = (np.array(side) for side in zip(*measures["reliability"], strict=True))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="honest")
    axes.plot(means, shares, color=BLUE, linewidth=1, alpha=0.4)
    # A bin of few texts says little: its dot is small.
    sizes = 15 + 185 * counts / counts.max()
    axes.scatter(means, shares, s=sizes, color=BLUE, edgecolors="white", zorder=3, label="model")
    axes.set(ylabel=f"share {word}", xlim=(0, 1.03), ylim=(-0.03, 1.05))
    axes.legend(loc="upper left", frameon=False, markerscale=0.5)
    below.bar(means, counts, width=0.6 / BINS, color=BLUE)
    for mean, count in zip(means, counts, strict=True):
        below.text(mean, count, f"{count:.0f}", ha="center", va="bottom", fontsize=7)
    below.set(xlabel="mean score of the bin", ylabel="answers", ylim=(0, counts.max() * 1.25))
    return _clean(figure)


def confidence(
    sure: Sequence[float], right: Sequence[float], words: tuple[str, str] = ("right", "wrong")
) -> Figure:
    """How the scores of right and of wrong answers spread, each as shares of its own kind."""
    figure = _figure("How sure it was")
    axes = figure.subplots()
    hits, values = np.array(right) > 0, np.array(sure)
    for side, colour, word in zip(
        (values[hits], values[~hits]), (BLUE, ORANGE), words, strict=True
    ):
        counts, edges = np.histogram(side, bins=20, range=(0, 1))
        shares = counts / max(len(side), 1)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.2)
        axes.stairs(shares, edges, color=colour, linewidth=1.8, label=f"{word}: {len(side)}")
    axes.set(xlabel="score", ylabel="share of the answers of its kind", xlim=(0, 1.01))
    # Room for the legend, as the highest bar may stand anywhere.
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
    axes.legend(loc="upper center", ncols=2, frameon=False)
    return _clean(figure)


def by_length(rows: Sequence[Mapping[str, Any]], measure: str, words: str) -> Figure:
    """Whether long texts are harder; lines are 95 % intervals."""
    figure = _figure(f"Length against {'accuracy' if measure == 'right' else 'error'}")
    axes = figure.subplots()
    values = np.array([row[measure] for row in rows])
    reach = np.abs(np.array([row[f"{measure}_interval"] for row in rows]).T - values)
    places = range(len(rows))
    axes.bar(places, values, color=BLUE, alpha=0.75, width=0.7)
    axes.errorbar(places, values, yerr=reach, fmt="none", ecolor=INK, capsize=3)
    axes.set_xticks(places, [f"{_span(row)}\n{row['texts']} texts" for row in rows], fontsize=8)
    axes.set(xlabel="tokens", ylabel=words)
    # Shares are seen against all that there is.
    axes.set_ylim(0, 1.03 if measure == "right" else None)
    return _clean(figure)


def scatter(truth: Sequence[float], given: Sequence[float]) -> Figure:
    """What the model says against what people said."""
    figure = _figure("Model against people")
    axes = figure.subplots()
    axes.scatter(truth, given, s=14, alpha=0.4, color=BLUE, edgecolors="none")
    axes.set(xlabel="people", ylabel="model")
    return _clean(figure)


def _span(row: Mapping[str, Any]) -> str:
    least, most = row["least_tokens"], row["most_tokens"]
    return f"{least}" if least == most else f"{least} to {most}"


def _figure(title: str) -> Figure:
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def _clean(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]  # matplotlib
    return buffer.getvalue()
