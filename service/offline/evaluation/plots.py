"""Pictures of an evaluation, as PNG: no global state, no window, colours for all eyes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from service.offline.evaluation.evaluate import Evaluation

# Blue and orange of Okabe and Ito's palette.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
SIZE_INCHES = (5.2, 4.2)
DPI = 110
LONGEST_LABEL = 18


def plots_of(evaluation: Evaluation) -> dict[str, bytes]:
    """File name to picture: those that the measures have something for."""
    measures, answers = evaluation.measures, evaluation.answers
    figures: dict[str, Figure] = {}
    if "confusion" in measures:
        figures["confusion.png"] = confusion(list(measures["labels"]), measures["confusion"])
    if "reliability" in measures:
        figures["reliability.png"] = reliability(measures)
        figures["confidence.png"] = confidence(answers.confidence, answers.right)
    if "by_length" in measures:
        figures["length.png"] = by_length(measures["by_length"])
    if answers.given:
        figures["scatter.png"] = scatter(answers.truth, answers.given)
    return {name: _png(figure) for name, figure in figures.items()}


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """Rows are the truth, columns the answers; shades are shares of a row."""
    figure, axes = _figure("What was given for what")
    cells = np.array(counts)
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [label if len(label) <= LONGEST_LABEL else label[:17] + "…" for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("given")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(cells):
        shade = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count}", ha="center", va="center", color=shade)
    return figure


def reliability(measures: Mapping[str, Any]) -> Figure:
    """Share right against confidence; on the diagonal, scores are honest."""
    error = measures["calibration_error"]
    figure, axes = _figure(f"Scores against truth (calibration error {error:.3f})")
    counts, means, shares = zip(*measures["reliability"], strict=True)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="honest")
    axes.plot(means, shares, color=BLUE, marker="o", label="model")
    for count, mean, share in zip(counts, means, shares, strict=True):
        axes.annotate(
            f"{count}", (mean, share), textcoords="offset points", xytext=(5, -11), fontsize=8
        )
    axes.set_xlabel("mean score of the bin (numbers: texts in it)")
    axes.set_ylabel("share right")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.05)
    axes.legend(loc="upper left")
    return figure


def confidence(sure: Sequence[float], right: Sequence[float]) -> Figure:
    """How sure the right answers were, and the wrong ones."""
    figure, axes = _figure("How sure it was")
    hits = np.array(right) > 0
    values = np.array(sure)
    axes.hist(
        [values[hits], values[~hits]], bins=20, range=(0, 1), stacked=True, color=[BLUE, ORANGE],
        label=["right", "wrong"],
    )  # fmt: skip
    axes.set_xlabel("score")
    axes.set_ylabel("answers")
    axes.legend(loc="upper left")
    return figure


def by_length(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Whether long texts are harder."""
    figure, axes = _figure("Length against accuracy")
    names = [f"{row['least_tokens']:.0f} to {row['most_tokens']:.0f}" for row in rows]
    axes.bar(names, [row["right"] for row in rows], color=BLUE)
    axes.set_ylim(0, 1)
    axes.set_xlabel("tokens")
    axes.set_ylabel("share right")
    axes.tick_params(axis="x", rotation=30)
    return figure


def scatter(truth: Sequence[float], given: Sequence[float]) -> Figure:
    """What the model says against what people said."""
    figure, axes = _figure("Model against truth")
    axes.scatter(truth, given, s=9, alpha=0.4, color=BLUE, edgecolors="none")
    axes.set_xlabel("true")
    axes.set_ylabel("given")
    return figure


def _figure(title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]  # matplotlib
    return buffer.getvalue()
