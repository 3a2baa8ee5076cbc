from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.batching.queue import TokenQueue


@dataclass
class Text:
    name: str
    tokens: int
    abandoned: bool = False


def queue_of(*texts: Text) -> TokenQueue[Text]:
    queue: TokenQueue[Text] = TokenQueue()
    queue.put(list(texts))
    return queue


def names(batch: list[Text]) -> list[str]:
    return [text.name for text in batch]


def test_batch_is_filled_up_to_the_budget_and_not_beyond() -> None:
    queue = queue_of(Text("a", 3), Text("b", 5), Text("c", 1))
    assert names(queue.take(8)) == ["a", "b"]
    assert names(queue.take(8)) == ["c"]


def test_text_longer_than_the_budget_runs_alone() -> None:
    queue = queue_of(Text("long", 100), Text("short", 1))
    assert names(queue.take(8)) == ["long"]
    assert names(queue.take(8)) == ["short"]


def test_abandoned_text_is_passed_over_and_does_not_end_the_batch() -> None:
    queue = queue_of(Text("a", 2), Text("gone", 100, abandoned=True), Text("b", 2))
    assert names(queue.take(8)) == ["a", "b"]


def test_only_abandoned_texts_make_an_empty_batch_and_an_empty_queue() -> None:
    queue = queue_of(Text("gone", 5, abandoned=True))
    assert queue.take(8) == []
    assert (len(queue), queue.tokens) == (0, 0)


@given(
    sizes=st.lists(st.integers(1, 50), max_size=60),
    gone=st.sets(st.integers(0, 59)),
    budget=st.integers(1, 64),
)
def test_every_wanted_text_leaves_exactly_once_in_order(
    sizes: list[int], gone: set[int], budget: int
) -> None:
    texts = [Text(str(i), tokens, abandoned=i in gone) for i, tokens in enumerate(sizes)]
    queue = queue_of(*texts)
    left: list[Text] = []
    while batch := queue.take(budget):
        assert sum(text.tokens for text in batch) <= max(budget, batch[0].tokens)
        left += batch
    assert left == [text for text in texts if not text.abandoned]
    assert (len(queue), queue.tokens) == (0, 0)
