import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ModelCorrupt
from service.runtime.tokenizer import Tokenizer
from tests.conftest import tiny_tokenizer


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    tokenizer = tiny_tokenizer()
    # What published tokenizers carry, and what would falsify every count.
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(4)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_padding_and_truncation_of_the_file_are_switched_off(tokenizer_file: Path) -> None:
    (text,) = Tokenizer(tokenizer_file, max_tokens=16).encode(["the train leaves at nine"])
    assert (len(text.token_ids), text.truncated) == (7, False)


@pytest.mark.parametrize(("words", "truncated"), [(5, False), (6, False), (7, True), (500, True)])
def test_truncation_is_reported_exactly_where_it_begins(
    tokenizer_file: Path, words: int, truncated: bool
) -> None:
    (text,) = Tokenizer(tokenizer_file, max_tokens=8).encode(["the " * words])
    assert text.truncated is truncated
    assert len(text.token_ids) == min(8, words + 2)


@pytest.mark.parametrize(
    ("text", "blank"),
    [("\u200b", True), ("\x00", True), ("", True), ("a", False), ("\u4e00", False)],
)
def test_text_of_which_nothing_is_left_is_reported_as_blank(
    tokenizer_file: Path, text: str, blank: bool
) -> None:
    (tokenized,) = Tokenizer(tokenizer_file, max_tokens=8).encode([text])
    assert tokenized.blank is blank


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["the ", "train", "nine ", " " * 90, "b" * 150, "!", "\u0301", "\u4e00"]),
        max_size=60,
    ),
    st.integers(0, 2),
)
def test_text_too_long_to_be_looked_at_whole_gets_the_ids_that_it_would_get(
    pieces: list[str], times: int
) -> None:
    text = "".join(pieces) * 10**times
    whole = tiny_tokenizer()
    whole.enable_truncation(8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        whole.save(str(path))
        (tokenized,) = Tokenizer(path, max_tokens=8).encode([text])
    expected = whole.encode(text)
    assert tokenized.token_ids == expected.ids
    assert tokenized.truncated is bool(expected.overflowing)


def test_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ModelCorrupt, match=r"tokenizer\.json"):
        Tokenizer(path, max_tokens=8)
