import numpy as np
import pytest

from service.runtime.outputs import compound, quantize_int8, softmax, truncate_dimensions


def rows(*values: list[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(
    "logits", [[0, 0, 0], [-100, 5, 0], [1e38, -1e38, 0], [-3e38, -3e38, -3e38], [88.8, 89, -200]]
)
def test_softmax_is_finite_and_sums_to_one_at_the_extremes(logits: list[float]) -> None:
    scores = softmax(rows(logits))
    assert np.isfinite(scores).all()
    assert scores.sum() == pytest.approx(1)
    assert scores.argmax() == np.argmax(logits)


def test_softmax_does_not_move_with_a_constant() -> None:
    assert softmax(rows([1, 2, 3])) == pytest.approx(softmax(rows([101, 102, 103])))


def test_truncated_vectors_have_unit_length_again() -> None:
    cut = truncate_dimensions(rows([3, 4, 12], [1, 0, 0]), 2)
    assert cut == pytest.approx(rows([0.6, 0.8], [1, 0]))


def test_vector_whose_kept_part_is_zero_stays_finite() -> None:
    assert truncate_dimensions(rows([0, 0, 1]), 2).tolist() == [[0, 0]]


def test_compound_runs_from_minus_one_to_one_whatever_the_order_of_labels() -> None:
    scores = rows([1, 0, 0], [0, 0, 1], [0.25, 0.5, 0.25])
    assert compound(scores, ("positive", "neutral", "negative")).tolist() == [1, -1, 0]
    assert compound(scores, ("negative", "neutral", "positive")).tolist() == [-1, 1, 0]


def test_row_of_zeros_is_zeros_as_bytes_without_a_warning() -> None:
    quantized = quantize_int8(rows([0, 0], [1e-35, 0], [0.25, -1]))
    assert quantized.tolist() == [[0, 0], [0, 0], [32, -127]]
