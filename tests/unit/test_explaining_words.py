"""Words of a text, as an explanation leaves them out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.explaining.words import words_of
from service.inputs import Pair
from service.runtime.tokenizer import Tokenizer
from tests.conftest import TINY_MAX_TOKENS, tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    file = tmp_path_factory.mktemp("words") / "tokenizer.json"
    tiny_tokenizer().save(str(file))
    return Tokenizer(file, TINY_MAX_TOKENS)


def written(tokenizer: Tokenizer, text: str) -> list[str]:
    words = words_of(text, tokenizer.tokens_read(text), 0)
    return [text[word.start : word.end] for word in words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The food, at nine.", ["The", "food,", "at", "nine."]),
        ("it's well-made", ["it's", "well-made"]),
        ('a "bad" train!', ["a", '"bad"', "train!"]),
        ("good,bad", ["good,", "bad"]),
        ("good 😀 food", ["good", "😀", "food"]),
        ("菜很好。a 茶", ["菜", "很", "好。", "a", "茶"]),
        ("a\u200b b", ["a\u200b", "b"]),
        ("...", ["..."]),
    ],
)
def test_marks_stay_with_their_word_and_chinese_is_cut_into_characters(
    tokenizer: Tokenizer, text: str, words: list[str]
) -> None:
    assert written(tokenizer, text) == words


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_every_token_of_a_text_is_of_exactly_one_word(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.tokens_read(text)
    words = words_of(text, tokens, 0)
    places = [place for word in words for place in word.tokens]
    assert places == [place for place, token in enumerate(tokens) if not token.special]
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)


def test_words_that_the_model_does_not_read_have_no_part(tokenizer: Tokenizer) -> None:
    text = "nine " * 50
    assert len(written(tokenizer, text)) == TINY_MAX_TOKENS - 2


def test_words_after_a_prompt_stand_where_the_text_has_them(tokenizer: Tokenizer) -> None:
    prompt, text = "a train: ", "good food"
    words = words_of(text, tokenizer.tokens_read(prompt + text), len(prompt))
    assert [text[word.start : word.end] for word in words] == ["good", "food"]
    assert [word.tokens for word in words] == [(4,), (5,)]


def test_pair_is_read_as_the_model_reads_it_and_words_know_their_text(
    tokenizer: Tokenizer,
) -> None:
    for pair in (Pair("the food", "a good train"), Pair("the " * 40, "nine at")):
        tokens = tokenizer.tokens_read(pair)
        (joined,) = tokenizer.encode_pairs([pair])
        assert [token.id for token in tokens] == joined.token_ids
        words = words_of(pair, tokens, 0)
        assert {word.part for word in words} == {0, 1}
        for word in words:
            own = [tokens[place].text for place in word.tokens]
            assert own == [pair[word.part][word.start : word.end]]
