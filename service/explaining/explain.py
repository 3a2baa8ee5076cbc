"""Why a text has its label: weights of its words, and what would have changed the label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.answers import Answer
from service.engine import Engine
from service.errors import InvalidField
from service.explaining.deletion import Deletion, label_changing_deletion
from service.explaining.occluded import Occluded
from service.explaining.weights import Weighted, phrase_weights, pull_of, reweighed, word_weights
from service.inputs import Input
from service.options import Options
from service.runtime.outputs import FloatArray, ProblemType

# Of labels of which any number may hold, those hold that are likelier than not.
HOLDS_ABOVE_LOGIT = 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """What moved the score of a label, in log-odds (regression: in its own unit).

    answer: of the whole input. label: its index. words: in the order of the text. phrases: the
    weightiest first. total: from no words to all of them; what the weights add up to if words moved
    the score independently of each other. deletion: of the fewest words, that changes the label.
    tokens: read by all runs.
    """

    answer: Answer
    label: int
    words: list[Weighted]
    phrases: list[Weighted]
    total: float
    deletion: Deletion | None
    tokens: int

    @property
    def weights_sum(self) -> float:
        return sum(one.weight for one in self.words)


async def explain(
    engine: Engine, text: Input, options: Options, label: str | None, max_runs: float
) -> Explanation:
    """Leave out words, then phrases, then what it takes to change the label.

    Args:
        label: the one to explain; without it the likeliest.
        max_runs: tokens that this may cost, in times those of the whole input.

    Raises:
        InvalidField: the model has no such label, or the input is token ids.
        InvalidRequest, Overloaded and others: see `Engine.embed`.
    """
    labels, problem = engine.manifest.labels, engine.manifest.problem_type
    if label is not None and label not in labels:
        raise InvalidField(
            f"model {engine.name!r} has no such label: it has {', '.join(labels)}", param="label"
        )
    answer = await engine.classify([text], options)
    index = int(answer.rows[0].argmax()) if label is None else labels.index(label)
    occluded = Occluded(engine, text, options, max_runs - 1)
    pull = pull_of(index, problem)
    words = await word_weights(occluded, pull, max_runs)
    phrases = await phrase_weights(occluded, pull, words, max_runs)
    whole, nothing = pull(await occluded.rows([(), occluded.words]))
    deletion = (
        None
        if problem == "regression"
        else await _deletion(occluded, answer.rows[0], index, problem, words, phrases)
    )
    return Explanation(
        answer,
        index,
        words,
        phrases,
        float(whole - nothing),
        deletion,
        sum(answer.tokens) + occluded.tokens_spent,
    )


async def _deletion(
    occluded: Occluded,
    row: FloatArray,
    index: int,
    problem: ProblemType,
    words: Sequence[Weighted],
    phrases: Sequence[Weighted],
) -> Deletion | None:
    """Of the label that is given; or, of any number of labels, of whether this one holds."""
    if problem == "single_label":
        speaks = await reweighed(occluded, pull_of(int(row.argmax()), problem), words)
        return await label_changing_deletion(occluded, np.argmax, speaks, phrases)
    pull = pull_of(index, problem)
    sign = 1 if row[index] > 0.5 else -1
    speaks = await reweighed(occluded, lambda rows: sign * pull(rows), words)
    return await label_changing_deletion(
        occluded, lambda one: bool(one[index] > HOLDS_ABOVE_LOGIT), speaks, phrases
    )
