"""Labels in the caller's own words: the embedding model judges how near each is to a text."""

from collections.abc import Sequence

import numpy as np

from service.answers import Answer
from service.engine import Engine
from service.errors import BlankText, InvalidField, TooManyTexts
from service.options import Options
from service.runtime.outputs import FloatArray, zero_shot_scores

NEITHER = "something else"


async def score_labels(
    engine: Engine,
    texts: Sequence[str],
    labels: Sequence[str],
    template: str,
    options: Options,
    *,
    multi_label: bool,
    max_labels: int,
) -> tuple[FloatArray, Answer]:
    """A score a label, [texts, labels] float32 in their order, and what the texts cost.

    The way of sentence encoders (Yin et al., 2019, arXiv:1909.00161, ask an entailment model the
    same): each label is put into a sentence, which is compared with the text.

    Args:
        template: the sentence; {} stands for the label.
        multi_label: each label against none of them, instead of against the others.

    Raises:
        InvalidField: the template has no {}, or a label stands twice.
        BlankText, TooManyTexts: of the labels.
        InvalidRequest, Overloaded and others: see `Engine.embed`.
    """
    if "{}" not in template:
        raise InvalidField(
            "hypothesis_template needs {} where the label goes", param="hypothesis_template"
        )
    if len(set(labels)) < len(labels):
        raise InvalidField("a label stands twice", param="candidate_labels")
    if len(labels) > max_labels:
        raise TooManyTexts(len(labels), max_labels)
    for index, label in enumerate(labels):
        if not label.strip():
            raise BlankText("the label is empty or blank", param=f"candidate_labels[{index}]")
    answer = await engine.embed(texts, options)
    sentences = [template.replace("{}", label) for label in (*labels, NEITHER)]
    # What was said of the texts, such as a prompt, is not meant for the labels.
    of_labels = Options(
        priority=options.priority,
        timeout_s=options.timeout_s,
        account=options.account,
        work=options.work,
    )
    vectors = (await engine.embed(sentences, of_labels)).rows
    neither = vectors[-1] if multi_label else None
    scores = zero_shot_scores(answer.rows, vectors[:-1], neither)
    return np.ascontiguousarray(scores), answer
