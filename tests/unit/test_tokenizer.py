from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ModelCorrupt
from service.runtime.tokenizer import Side, Tokenized, Tokenizer
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


WORDS = st.lists(st.sampled_from(["the", "a", "good", "bad", "train", "nine"]), max_size=60)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tiny_tokenizer().save(str(path))
    return Tokenizer(path, max_tokens=8)


@given(WORDS, st.sampled_from(["left", "right"]))
def test_text_is_cut_as_the_library_cuts_it(
    tokenizer: Tokenizer, words: list[str], side: Side
) -> None:
    theirs = tiny_tokenizer()
    theirs.enable_truncation(8, direction=side)
    (whole,) = tokenizer.encode_whole([" ".join(words)])
    cut = tokenizer.truncate(whole, side)
    assert cut.token_ids == theirs.encode(" ".join(words)).ids
    assert cut.full_tokens == len(words) + 2
    assert cut.truncated is (len(words) > 6)


@given(WORDS, WORDS)
def test_pair_is_cut_as_the_library_cuts_it(
    tokenizer: Tokenizer, first: list[str], second: list[str]
) -> None:
    theirs = tiny_tokenizer()
    theirs.enable_truncation(8, strategy="longest_first")
    pair = " ".join(first), " ".join(second)
    (ours,) = tokenizer.encode_pairs([pair])
    assert ours.token_ids == theirs.encode(*pair).ids
    assert ours.full_tokens == len(first) + len(second) + 3


@given(st.integers(0, 60), st.integers(0, 3))
def test_windows_hold_every_token_in_order_and_overlap(
    tokenizer: Tokenizer, tokens: int, kept: int
) -> None:
    # Ids that are all different, between the two special ones: 1000 and 2000.
    ids = [1000, *range(tokens), 2000]
    spans = tokenizer.windows(Tokenized(ids, len(ids), blank=False), kept)
    if tokens <= 6:
        assert spans == [ids]
        return
    room = 6 - kept
    middles = [span[1 + kept : -1] for span in spans]
    for span, middle in zip(spans, middles, strict=True):
        assert (span[: 1 + kept], span[-1]) == (ids[: 1 + kept], 2000)
        assert middle == list(range(middle[0], middle[0] + room))
    for one, following in pairwise(middles):
        assert one[0] < following[0] <= one[-1] + 1
    assert (middles[0][0], middles[-1][-1]) == (kept, tokens - 1)


def test_windows_share_an_eighth_of_their_tokens(tmp_path: Path) -> None:
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", max_tokens=34)
    ids = [1000, *range(200), 2000]
    spans = tokenizer.windows(Tokenized(ids, len(ids), blank=False))
    shared = [len({*one[1:-1]} & {*following[1:-1]}) for one, following in pairwise(spans)]
    assert shared[:-1] == [32 // 8] * (len(spans) - 2)
    assert shared[-1] >= 32 // 8


def test_prompt_stays_when_the_beginning_is_cut(tokenizer: Tokenizer) -> None:
    (whole,) = tokenizer.encode_whole(["good bad " + "the " * 20 + "nine"])
    cut = tokenizer.truncate(whole, "left", kept=2)
    assert cut.token_ids[:3] == whole.token_ids[:3]
    assert cut.token_ids[3:] == whole.token_ids[-5:]


def test_tokens_know_their_place_in_characters(tokenizer: Tokenizer) -> None:
    text = "the \U0001f642 train, caf\u00e9"
    tokens = tokenizer.tokens(text)
    assert [token.special for token in (tokens[0], tokens[-1])] == [True, True]
    assert tokens[0].start is tokens[0].end is None
    places = [(token.start, token.end) for token in tokens[1:-1]]
    assert [text[start:end] for start, end in places] == [
        *("the", "\U0001f642", "train", ",", "c", "a", "f", "\u00e9")
    ]
    assert len(tokenizer.tokens(text, special_tokens=False)) == len(tokens) - 2


def test_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ModelCorrupt, match=r"tokenizer\.json"):
        Tokenizer(path, max_tokens=8)
