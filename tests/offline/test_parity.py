"""The comparison of a file's answers with PyTorch's: every output, number and shape counts."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from service.errors import NonFiniteOutput, ParityFailed
from service.offline.parity import FloatArray, Run, Texts, prove_equal
from service.offline.progress import Progress

CASES: list[Texts] = [[[3]], [[3], [1, 2]], [[1, 2], [3], [4, 5, 6]]]


def pooled_and_tokens(text: list[int]) -> Sequence[Tensor]:
    """Of a text: its mean, [1, 1], and its tokens, [t, 1]."""
    tokens = torch.tensor(text, dtype=torch.float32)[:, None]
    return tokens.mean(dim=0, keepdim=True), tokens


def answers(texts: Texts) -> list[FloatArray]:
    alone = [pooled_and_tokens(text) for text in texts]
    return [torch.cat(rows).numpy() for rows in zip(*alone, strict=True)]


def runs_of(output: int, change: float | None = None) -> list[list[Run]]:
    """Both outputs of one run, or a run each; one of them changed, where a batch holds a pair."""

    def changed(texts: Texts) -> list[FloatArray]:
        found = answers(texts)
        if change is not None and len(texts) == 2:
            found[output] = found[output] + np.float32(change)
        return found

    return [[changed], [lambda texts: changed(texts)[:1], lambda texts: changed(texts)[1:]]]


@pytest.mark.parametrize("output", [0, 1])
def test_every_output_is_compared_however_many_runs_they_take(output: int, quiet: Progress) -> None:
    for runs in runs_of(output):
        assert prove_equal(runs, pooled_and_tokens, CASES, quiet, "tiny").max_abs_diff == 0
    for runs in runs_of(output, change=1e-5):
        report = prove_equal(runs, pooled_and_tokens, CASES, quiet, "tiny")
        assert report.max_abs_diff == pytest.approx(1e-5, rel=0.05)
        assert report.cases == len(CASES)
    for runs in runs_of(output, change=1e-3):
        with pytest.raises(ParityFailed, match=r"by 1\.00e-03 on 2 texts of 1 to 2 tokens"):
            prove_equal(runs, pooled_and_tokens, CASES, quiet, "tiny")
    for runs in runs_of(output, change=float("nan")):
        with pytest.raises(NonFiniteOutput):
            prove_equal(runs, pooled_and_tokens, CASES, quiet, "tiny")


def test_one_row_for_many_texts_is_no_answer(quiet: Progress) -> None:
    def spread(texts: Texts) -> list[FloatArray]:
        pooled, tokens = answers(texts)
        return [pooled[:1], tokens]

    alike: Texts = [[3], [3], [3]]
    with pytest.raises(ParityFailed, match="by inf on 3 texts"):
        prove_equal([spread], pooled_and_tokens, [alike], quiet, "tiny")


def test_output_that_is_missing_is_no_answer(quiet: Progress) -> None:
    with pytest.raises(ValueError, match="longer"):
        prove_equal([lambda texts: answers(texts)[:1]], pooled_and_tokens, CASES, quiet, "tiny")


def test_text_that_stands_in_several_batches_is_answered_alone_once(quiet: Progress) -> None:
    asked: list[tuple[int, ...]] = []

    def reference(text: list[int]) -> Sequence[Tensor]:
        asked.append(tuple(text))
        return pooled_and_tokens(text)

    prove_equal([answers], reference, CASES, quiet, "tiny")
    assert sorted(asked) == [(1, 2), (3,), (4, 5, 6)]
