import gc
from collections import deque
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching.queue import Priority, TokenQueue

BUDGET = 8


@dataclass(eq=False)
class Text:
    name: str
    tokens: int
    wanted: bool = True
    deadline_s: float = 100.0


def queue_of(*requests: list[Text], padded: bool = False) -> TokenQueue[Text]:
    queue: TokenQueue[Text] = TokenQueue(BUDGET, padded=padded)
    for request in requests:
        queue.put(request)
    return queue


def take(queue: TokenQueue[Text], now_s: float = 0.0) -> list[str]:
    return [text.name for text in queue.take(now_s).batch]


def take_all(queue: TokenQueue[Text]) -> list[list[str]]:
    batches = []
    while batch := take(queue):
        batches.append(batch)
    return batches


def large(name: str, texts: int, tokens: int = 4) -> list[Text]:
    return [Text(f"{name}{index}", tokens) for index in range(texts)]


def test_batch_is_filled_up_to_the_budget_and_not_beyond() -> None:
    queue = queue_of([Text("a", 3)], [Text("b", 5)], [Text("c", 1)])
    assert take_all(queue) == [["a", "b"], ["c"]]


def test_text_longer_than_the_budget_runs_alone() -> None:
    assert take_all(queue_of([Text("long", 100)], [Text("long too", 9)])) == [
        ["long"],
        ["long too"],
    ]


def test_unwanted_text_is_passed_over_and_does_not_end_the_batch() -> None:
    queue = queue_of([Text("a", 2)], [Text("gone", 7, wanted=False)], [Text("b", 2)])
    assert take(queue) == ["a", "b"]


def test_only_unwanted_texts_make_an_empty_batch() -> None:
    several = [replace(text, wanted=False) for text in large("gone", 9)]
    assert take(queue_of([Text("gone", 5, wanted=False)], several)) == []


def deques() -> int:
    gc.collect()
    return sum(type(one) is deque for one in gc.get_objects())


def test_what_has_left_leaves_nothing_behind() -> None:
    """Each request is a deque of its own: ten thousand empty ones would be as slow as full ones."""
    queue = queue_of()
    # So that the queue is never empty; it fits into no batch of the others.
    queue.put([Text("waits", BUDGET)], Priority.BULK)
    before = deques()
    for number in range(100):
        for texts, batches in (([Text(f"{number}", 5)], 1), (large(f"{number} ", 9), 5)):
            queue.put(texts)
            taken = [name for _ in range(batches) for name in take(queue)]
            assert taken == [text.name for text in texts]
    assert deques() <= before + 2


def test_what_nobody_waits_for_leaves_nothing_behind() -> None:
    queue = queue_of()
    before = deques()
    for number in range(100):
        queue.put([Text(f"{number}", 5, wanted=False)])
        queue.put([replace(text, wanted=False) for text in large(f"{number} ", 9)])
        assert take(queue) == []
    assert deques() <= before + 2


def test_text_of_several_requests_stands_in_a_batch_once() -> None:
    text = Text("asked twice", 2)
    assert take(queue_of([text], [text], [Text("another", 2)])) == ["asked twice", "another"]


def test_express_takes_short_interactive_requests_and_nothing_else() -> None:
    queue = queue_of(large("long", 9))
    queue.put([Text("bulk", 1)], Priority.BULK)
    assert queue.take(0.0, express=True).batch == []
    queue.put([Text("short", 1)])
    assert [text.name for text in queue.take(0.0, express=True).batch] == ["short"]
    # What it may not take still waits.
    left = [name for batch in take_all(queue) for name in batch]
    assert sorted(left) == sorted(["bulk", *(text.name for text in large("long", 9))])


def test_text_past_its_deadline_is_handed_out_as_expired_and_never_in_a_batch() -> None:
    queue = queue_of([Text("late", 2, deadline_s=1.0)], [Text("in time", 2)])
    taken = queue.take(now_s=1.0)
    assert [text.name for text in taken.expired] == ["late"]
    assert [text.name for text in taken.batch] == ["in time"]


def test_large_request_delays_a_short_one_by_no_batch_of_its_own() -> None:
    queue = queue_of(large("x", 100))
    assert take(queue) == ["x0", "x1"]
    queue.put([Text("short", 4)])
    assert take(queue)[0] == "short"


def test_large_request_gets_every_second_batch_however_many_short_ones_come() -> None:
    queue = queue_of(large("x", 6))
    firsts = []
    for number in range(6):
        queue.put([Text(f"short{number}", 8)])
        queue.put([Text(f"short too{number}", 8)])
        firsts.append(take(queue)[0][0])
    assert firsts == ["s", "x", "s", "x", "s", "x"]


def test_large_requests_of_like_size_are_served_in_the_order_they_came() -> None:
    queue = queue_of(large("x", 4), large("y", 4), large("z", 2, tokens=5))
    assert take_all(queue) == [
        ["x0", "x1"],
        ["x2", "x3"],
        ["y0", "y1"],
        ["y2", "y3"],
        ["z0"],
        ["z1"],
    ]


def test_large_requests_of_different_sizes_take_turns() -> None:
    """Two batches, four, and sixteen: the smallest waits for none of the others to end."""
    queue = queue_of(large("huge", 32), large("big", 8), large("x", 4), large("y", 4))
    firsts = [batch[0].rstrip("0123456789") for batch in take_all(queue)]
    assert firsts[:9] == ["huge", "big", "x"] * 2 + ["huge", "big", "y"]
    assert firsts == [*firsts[:9], "huge", "big", "y", *["huge"] * 12]


def test_large_request_gets_its_turns_however_many_smaller_ones_come() -> None:
    queue = queue_of(large("huge", 32))
    firsts = []
    for number in range(12):
        queue.put(large(f"x{number}.", 4))
        firsts.append(take(queue)[0][0])
    assert firsts == ["h", "x"] * 6


@given(
    sizes=st.lists(st.integers(3, 40), min_size=1, max_size=20),
    arrivals=st.lists(st.integers(3, 40), max_size=40),
)
def test_large_request_waits_for_no_more_than_a_turn_of_each_size_and_its_own_kind(
    sizes: list[int], arrivals: list[int]
) -> None:
    def kind(texts: int) -> int:
        return (-(-texts // 2) - 1).bit_length()

    queue = queue_of(*(large(f"r{number}.", texts) for number, texts in enumerate(sizes)))
    last = sizes[-1]
    before_it = sum(-(-texts // 2) for texts in sizes if kind(texts) == kind(last))
    kinds = {kind(texts) for texts in (*sizes, *arrivals)}
    name = f"r{len(sizes) - 1}.{last - 1}"
    for number in range(before_it * len(kinds)):
        # Whatever comes meanwhile.
        if arrivals:
            queue.put(large(f"late{number}.", arrivals[number % len(arrivals)]))
        if name in take(queue):
            return
    pytest.fail(f"not served within {before_it * len(kinds)} batches")


def test_short_requests_are_served_in_the_order_they_came() -> None:
    queue = queue_of([Text("a", 7)], [Text("b", 7)], [Text("c", 1)])
    assert take_all(queue) == [["a"], ["b", "c"]]


def test_short_request_that_gave_a_part_keeps_its_place() -> None:
    queue = queue_of([Text("a", 5)], [Text("b0", 3), Text("b1", 5)], [Text("c", 3)])
    assert take_all(queue) == [["a", "b0"], ["b1", "c"]]


def test_bulk_runs_when_nothing_interactive_waits_and_fills_what_room_is_left() -> None:
    queue: TokenQueue[Text] = TokenQueue(BUDGET)
    queue.put([Text("bulk", 3), Text("bulk too", 3)], Priority.BULK)
    queue.put([Text("now", 5)])
    assert take_all(queue) == [["now", "bulk"], ["bulk too"]]


def test_padded_batch_costs_its_longest_text_and_holds_texts_of_like_length() -> None:
    queue = queue_of(
        [Text("a", 2)], [Text("z", 8)], [Text("b", 2)], [Text("c", 2)], [Text("d", 2)], padded=True
    )
    assert take_all(queue) == [["a", "b", "c", "d"], ["z"]]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30))
def test_padded_batch_always_holds_the_text_whose_turn_it_is(sizes: list[int]) -> None:
    queue = queue_of(
        *([Text(str(i), min(tokens, BUDGET))] for i, tokens in enumerate(sizes)), padded=True
    )
    waiting = [str(i) for i in range(len(sizes))]
    while batch := queue.take(0.0).batch:
        longest = max(text.tokens for text in batch)
        assert longest * len(batch) <= BUDGET or len(batch) == 1
        assert batch[0].name == waiting[0]
        waiting = [name for name in waiting if name not in {text.name for text in batch}]
    assert not waiting


@pytest.mark.parametrize("padded", [False, True])
@given(
    requests=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=8),
            st.sampled_from(Priority),
        ),
        max_size=20,
    )
)
def test_every_wanted_text_leaves_exactly_once_and_in_its_requests_order(
    padded: bool, requests: list[tuple[list[tuple[int, bool]], Priority]]
) -> None:
    queue: TokenQueue[Text] = TokenQueue(BUDGET, padded=padded)
    texts = []
    for number, (sizes, priority) in enumerate(requests):
        request = [
            Text(f"{number}.{place}", tokens, wanted)
            for place, (tokens, wanted) in enumerate(sizes)
        ]
        queue.put(request, priority)
        texts += request
    left = [text for batch in iter(lambda: queue.take(0.0).batch, []) for text in batch]
    assert sorted(text.name for text in left) == sorted(t.name for t in texts if t.wanted)
    if not padded:
        for number in range(len(requests)):
            mine = [text.name for text in left if text.name.startswith(f"{number}.")]
            assert mine == sorted(mine, key=lambda name: int(name.split(".")[1]))
