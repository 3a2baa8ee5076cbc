"""Keys, what they may take, and who is let in; the clock is the test's own."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.access.accounts import KeyAccount
from service.access.gate import Gate
from service.access.keys import Key, key_to_send, make_key, parse_keys, read_keys
from service.access.purchases import Purchase
from service.errors import (
    AdminDisabled,
    InferenceFailed,
    KeysInvalid,
    RateLimited,
    TooManyTokens,
    Unauthorized,
)
from service.metrics import Metrics
from service.settings import load_settings

SECRET = "enc-canary-of-a-key"
HEX = hashlib.sha256(SECRET.encode()).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def account(clock: Clock, rate: int | None = None, share: float = 1.0) -> KeyAccount:
    key = Key("a", b"", rate, share)
    return KeyAccount(key, 1000, Metrics(CollectorRegistry()), clock)


def ask_in_turn(paying: KeyAccount, *tokens: int) -> None:
    """One request that asks a model for each of the numbers of tokens, in turn."""
    with Purchase(paying) as request:
        for count in tokens:
            with request.spending(count):
                pass


@contextmanager
def spending(account: KeyAccount, tokens: int) -> Iterator[None]:
    """A request that asks a model once."""
    with Purchase(account) as one, one.spending(tokens):
        yield


def gate(**settings: object) -> Gate:
    return Gate(load_settings(**settings), Metrics(CollectorRegistry()))


def test_lines_and_json_say_the_same() -> None:
    lines = f"# callers\nweb:{HEX}:60000:0.5\n\nbatch:{OTHER}::0.25  # at night\n"
    entries = [
        {"name": "web", "sha256": HEX, "tokens_per_minute": 60000, "share": 0.5},
        {"name": "batch", "sha256": OTHER, "share": 0.25},
    ]
    keys = parse_keys(lines, "here")
    assert keys == parse_keys(json.dumps(entries), "here")
    assert keys == parse_keys(f"web:{HEX}:60000:0.5,batch:{OTHER}::0.25", "here")
    assert [(key.name, key.tokens_per_minute, key.share) for key in keys] == [
        *(("web", 60000, 0.5), ("batch", None, 0.25))
    ]


@pytest.mark.parametrize(
    "written",
    [
        *("web", f"web:{HEX[:-1]}", f":{HEX}", f"we b:{HEX}", f"web:{HEX}:0", f"web:{HEX}:many"),
        *(f"web:{HEX}:1:0", f"web:{HEX}:1:1.5", f"web:{HEX}:1:nan", f"web:{HEX}:1:1:1"),
        *(f"web:{SECRET}", f"web:{HEX}:1.5", f"web:{HEX}:-1", f"web:{HEX}:True"),
        *("[", "[1]", f'[{{"name": "web", "sha256": "{HEX}", "rate": 1}}]', '[{"name": "web"}]'),
        f'[{{"name": "web", "sha256": "{HEX}", "share": true}}]',
    ],
)
def test_a_wrong_key_is_named_by_its_place_and_never_repeated(written: str) -> None:
    with pytest.raises(KeysInvalid) as caught:
        parse_keys(written, "here")
    assert "here" in caught.value.message
    assert SECRET not in caught.value.message
    assert HEX not in caught.value.message


@pytest.mark.parametrize("second", [f"web:{OTHER}", f"other:{HEX}"])
def test_a_name_or_a_digest_stands_once(second: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(second)
    with pytest.raises(KeysInvalid, match="same"):
        read_keys(f"web:{HEX}", file)


def test_a_file_without_a_key_does_not_open_the_server(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# none yet\n")
    with pytest.raises(KeysInvalid, match="open the server"):
        gate(api_keys_file=file)
    with pytest.raises(KeysInvalid, match="cannot be read"):
        gate(api_keys_file=tmp_path / "nothing")
    file.write_text(" \n")
    with pytest.raises(KeysInvalid, match="holds no key"):
        gate(admin_key_file=file)


def test_neither_a_key_nor_its_digest_is_shown_of_what_holds_it() -> None:
    settings = load_settings(api_keys=f"web:{HEX}", admin_key=SECRET, metrics_key=SECRET)
    shown = repr(settings) + str(settings) + repr(parse_keys(f"web:{HEX}", "here"))
    assert SECRET not in shown
    assert HEX not in shown
    assert repr(bytes.fromhex(HEX))[2:-1] not in shown
    with pytest.raises(ValueError, match="max_queue_tokens") as caught:
        load_settings(admin_key=SECRET, max_queue_tokens=1, max_batch_tokens=2)
    assert SECRET[:8] not in str(caught.value)


def test_a_made_key_is_let_in_by_its_line() -> None:
    key, line = make_key("web")
    assert key not in line
    found = gate(api_keys=line).account_of(key.encode())
    assert isinstance(found, KeyAccount)
    assert found.name == "web"
    with pytest.raises(KeysInvalid):
        make_key("we b")


def test_each_key_has_its_own_account_and_no_other_is_let_in() -> None:
    door = gate(api_keys=f"web:{HEX}:10,other:{OTHER}")
    names = [getattr(door.account_of(sent), "name", "") for sent in (SECRET.encode(), b"other")]
    assert names == ["web", "other"]
    # A digest that leaked is no key.
    for sent in (b"", b"wrong", HEX.encode(), f"sha256:{HEX}".encode(), b"\xff"):
        with pytest.raises(Unauthorized):
            door.account_of(sent)
    assert gate().account_of(b"") is None


@pytest.mark.parametrize("written", [SECRET, f"sha256:{HEX}"])
def test_administration_and_metrics_have_keys_of_their_own(written: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{written}\n")
    for door in (
        gate(admin_key=written, metrics_key=written),
        gate(admin_key_file=file, metrics_key_file=file),
    ):
        door.require_admin(SECRET.encode())
        door.require_metrics(SECRET.encode())
        for sent in (b"", b"wrong", f"sha256:{HEX}".encode()):
            with pytest.raises(Unauthorized):
                door.require_admin(sent)
            with pytest.raises(Unauthorized):
                door.require_metrics(sent)
    gate().require_metrics(b"")
    with pytest.raises(AdminDisabled):
        gate().require_admin(b"")


def test_a_key_that_is_sent_is_the_key_and_not_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    assert key_to_send("", file) == key_to_send(SECRET, None) == SECRET
    assert key_to_send("", None) == ""
    with pytest.raises(KeysInvalid, match="digest"):
        key_to_send(f"sha256:{HEX}", None)


def test_key_in_a_remark_is_none(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# revoked: alice:{OTHER}, bob:{OTHER}\nweb:{HEX} # team A, since May\n")
    assert [key.name for key in read_keys("", file)] == ["web"]


def test_tokens_come_back_evenly_and_never_more_than_a_minutes(clock: Clock) -> None:
    paying = account(clock, rate=600)
    with spending(paying, 600):
        pass
    with pytest.raises(RateLimited) as caught:
        paying.check(100)
    assert caught.value.retry_after_s == pytest.approx(10)
    clock.now_s = 9.9
    with pytest.raises(RateLimited):
        paying.check(100)
    clock.now_s = 10.1
    paying.check(100)
    clock.now_s = 10_000
    with spending(paying, 600), pytest.raises(RateLimited):
        paying.check(1)
    with pytest.raises(TooManyTokens, match="600 a minute"):
        paying.check(601)


def test_what_ends_in_an_error_is_not_charged(clock: Clock) -> None:
    paying = account(clock, rate=600)
    with pytest.raises(InferenceFailed), spending(paying, 600):
        raise InferenceFailed("no")
    paying.check(600)
    with pytest.raises(KeyboardInterrupt), spending(paying, 600):
        raise KeyboardInterrupt  # as a cancellation: the work was done
    with pytest.raises(RateLimited):
        paying.check(1)


def test_a_request_that_can_never_be_paid_is_told_so_and_costs_nothing(clock: Clock) -> None:
    """It asks models twice: once is within the minute's tokens, twice is not."""
    paying = account(clock, rate=1000)
    with pytest.raises(TooManyTokens, match="1200 tokens"):
        ask_in_turn(paying, 600, 600)
    paying.check(1000)


def test_a_request_whose_second_asking_is_refused_gets_its_first_one_back(clock: Clock) -> None:
    paying = account(clock, rate=1000)
    with spending(paying, 300):
        pass
    with pytest.raises(RateLimited):
        ask_in_turn(paying, 500, 400)
    paying.check(700)


def test_askings_side_by_side_that_never_fit_the_share_are_told_so(clock: Clock) -> None:
    paying = account(clock, share=0.5)
    request = Purchase(paying)
    with request.spending(300), pytest.raises(TooManyTokens, match="share"):
        request.expect(201, 804)
    with request.spending(300):
        pass


def test_parts_of_a_stream_are_paid_each_by_itself(clock: Clock) -> None:
    paying = account(clock, rate=1000)
    with Purchase(paying) as stream:
        for _ in range(3):
            with stream.part() as part, part.spending(900):
                pass
            clock.now_s += 60


def test_a_key_that_may_fill_the_queue_is_limited_by_the_queue_alone(clock: Clock) -> None:
    """Which then refuses for the server's sake: that is not the caller's fault."""
    paying = account(clock)
    with spending(paying, 1000), spending(paying, 1000):
        paying.check(1000)


def test_a_share_is_of_what_is_under_way(clock: Clock) -> None:
    paying = account(clock, share=0.5)
    with spending(paying, 300):
        paying.check(200)
        with pytest.raises(RateLimited, match="300 tokens under way"):
            paying.check(201)
    paying.check(500)
    with pytest.raises(TooManyTokens, match="share"):
        paying.check(501)


def test_a_caller_who_goes_on_asking_is_a_line_a_minute(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    paying = account(clock, rate=1000, share=0.5)
    with spending(paying, 500):
        for second in range(121):
            clock.now_s = float(second)
            with pytest.raises(RateLimited):
                paying.check(500)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["key a is over its share limit"] * 3
