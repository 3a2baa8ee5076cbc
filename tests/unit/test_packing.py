import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.runtime.packing import pack

TEXTS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=12), min_size=1, max_size=9)


@given(TEXTS)
def test_gathering_by_pad_index_gives_each_text_back_and_padding_elsewhere(
    texts: list[list[int]],
) -> None:
    batch = pack(texts)
    rows = np.append(batch.input_ids, 0)
    block = rows[batch.pad_index]
    longest = max(map(len, texts))
    assert block.tolist() == [text + [0] * (longest - len(text)) for text in texts]


@given(TEXTS)
def test_scattering_by_unpad_index_undoes_the_gather(texts: list[list[int]]) -> None:
    batch = pack(texts)
    block = np.append(batch.input_ids, -1)[batch.pad_index]
    assert block.reshape(-1)[batch.unpad_index].tolist() == batch.input_ids.tolist()


@given(TEXTS)
def test_positions_count_from_zero_in_each_text(texts: list[list[int]]) -> None:
    assert pack(texts).position_ids.tolist() == [i for text in texts for i in range(len(text))]


def test_every_input_is_int64_as_the_graph_wants_it() -> None:
    assert {array.dtype for array in pack([[1], [2, 3]]).feeds().values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("texts", [[], [[]], [[1], []]])
def test_nothing_to_pack_is_an_error(texts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least one text"):
        pack(texts)
