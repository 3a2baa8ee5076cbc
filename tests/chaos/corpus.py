"""Wrong and odd requests, made by hand for every route: what is sent, and how."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.integration.every_route import Asked

DEEP = b"[" * 200_000
HUGE = "9" * 400

# Whole bodies, wrong on any route.
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "blank": b" \r\n\t",
    "no JSON": b"food",
    "cut off": b'{"input": "fo',
    "two values": b"{}{}",
    "trailing comma": b'{"input": "food",}',
    "comment": b'{"input": "food"} // a text',
    "single quotes": b"{'input': 'food'}",
    "byte order mark": b'\xef\xbb\xbf{"input": "food"}',
    "UTF-16": '{"input": "food"}'.encode("utf-16"),
    "UTF-32": '{"input": "food"}'.encode("utf-32"),
    "Latin-1": b'{"input": "caf\xe9"}',
    "overlong UTF-8": b'{"input": "\xc0\xaf"}',
    "surrogate in UTF-8": b'{"input": "\xed\xa0\x80"}',
    "lone surrogate": b'{"input": "\\ud800", "inputs": "\\udfff"}',
    "lone surrogate as a name": b'{"\\ud800": 1}',
    "bad escape": b'{"input": "\\x41"}',
    "bare control character": b'{"input": "a\x00b"}',
    "NaN": b'{"input": NaN, "inputs": NaN}',
    "infinity": b'{"input": -Infinity}',
    "1e999": b'{"dimensions": 1e999}',
    "huge integer": f'{{"dimensions": {HUGE}}}'.encode(),
    "huge exponent": b'{"dimensions": 1e-999999999}',
    "leading zero": b'{"dimensions": 007}',
    "hexadecimal": b'{"dimensions": 0x10}',
    "null": b"null",
    "true": b"true",
    "number": b"7",
    "string": b'"food"',
    "list": b'["food"]',
    "empty list": b"[]",
    "empty object": b"{}",
    "deep lists": DEEP,
    "deep lists, closed": DEEP + b"]" * len(DEEP),
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "same name twice": b'{"input": "food", "input": 7, "inputs": "food", "inputs": {}}',
    "many names": json.dumps(dict.fromkeys(map(str, range(20_000)), 1)).encode(),
    "name that is empty": b'{"": "food"}',
    "name that is long": json.dumps({"a" * 100_000: 1}).encode(),
    "name of a language's own": b'{"__proto__": {"x": 1}, "__class__": "x"}',
    "form": b"input=food&model=embedding",
    "XML": b"<input>food</input>",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="input"\r\n\r\nfood\r\n--x--\r\n',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x56\x02\x00",
    "lines": b'{"input": "food"}\n{"input": "train"}\n',
    "only NULs": b"\x00" * 1000,
    "larger than is read": b'{"input": "' + b"a" * (4 * 2**20) + b'"}',
}

# Values that stand in the place of each value of a sound request.
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "half": 0.5,
    "2**63": 2**63,
    "-2**63 - 1": -(2**63) - 1,
    "2**400": 2**400,
    "1e308": 1e308,
    "empty": "",
    "blank": " \t\u3000\u200b",
    "NUL": "\x00",
    "number as text": "7",
    "other script's digits": "\u0663",
    "long word": "a" * 100_001,
    "long blank": " " * 100_001,
    "combining marks": "e" + "\u0301" * 5000,
    "joined emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 500,
    "right to left": "\u202e\u05d0\u202c\u2066",
    "highest code point": "\U0010ffff",
    "special tokens": "[CLS] [SEP] [PAD] [MASK]",
    "path": "../../../../etc/passwd",
    "template": "{{7*7}} ${7*7} %s %n",
    "line end": "a\r\nX-Evil: 1",
    "no list": [],
    "list in a list": [[]],
    "deep list": [[[[[[[["food"]]]]]]]],
    "mixed list": ["food", 7, None, {}],
    "ids out of range": [2**31, -1, 10**9],
    "list of booleans": [True, False],
    "many texts": ["food"] * 2049,
    "many empty texts": [""] * 100,
    "many numbers": [1] * 50_000,
    "object": {},
    "object in an object": {"a": {"b": {"c": 1}}},
}

HEADERS: dict[str, dict[str, str]] = {
    "no media type": {"Content-Type": ""},
    "other media type": {"Content-Type": "text/plain"},
    "odd media type": {"Content-Type": "application/json; charset=utf-7; boundary=;;"},
    "media type without a slash": {"Content-Type": "json"},
    "gzip that is none": {"Content-Encoding": "gzip"},
    "deflate that is none": {"Content-Encoding": "deflate"},
    "two encodings": {"Content-Encoding": "gzip, br"},
    "unknown priority": {"X-Priority": "now"},
    "timeout of nothing": {"X-Request-Timeout-Ms": "0"},
    "timeout below nothing": {"X-Request-Timeout-Ms": "-5"},
    "timeout without end": {"X-Request-Timeout-Ms": HUGE},
    "timeout in words": {"X-Request-Timeout-Ms": "soon"},
    "other version": {"X-Expected-Version": "sha256:0"},
    "id with blanks": {"X-Request-ID": "a b"},
    "long id": {"X-Request-ID": "a" * 5000},
    "odd accept": {"Accept": ";;q=x,*/*;q=-1,application/openmetrics-text; version=9"},
    "key of another": {"Authorization": "Bearer \xe9"},
    "no bearer": {"Authorization": "Basic Og=="},
    "tail beyond the body": {"Inference-Header-Content-Length": "99999999"},
    "tail before the body": {"Inference-Header-Content-Length": "-1"},
    "odd trace": {"traceparent": "00-0-0-ff", "tracestate": "=,=,="},
    "upgrade": {"Connection": "Upgrade", "Upgrade": "h2c"},
    "other method": {"X-HTTP-Method-Override": "DELETE"},
    "range": {"Range": "bytes=0-,-1"},
    "condition": {"If-None-Match": '"x", W/"y', "If-Modified-Since": "yesterday"},
}

PATHS = (
    *("?", "?=", "?a=%ff%00&a=b&&", "?" + "a=1&" * 2000, "/", "//", "/../..", "/%2e%2e/%2f"),
    *("/%00", "/%ff", "/%zz", ";x=1", "#x", "/" + "a" * 5000),
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
NAMES = ("%00", "%ff%fe", "..", "%2e%2e%2fetc", "embedding@", "@1", "embedding@999", "a" * 3000)

Case = tuple[str, Asked, dict[str, str]]


def cases(sound: list[Asked]) -> Iterator[Case]:
    """Name, request and further headers of each, for every sound request."""
    for asked in sound:
        for name, headers in HEADERS.items():
            yield f"header: {name}", asked, headers
        for end in PATHS:
            yield f"path: {end[:20]}", replace(asked, path=asked.path + end), {}
        for method in METHODS:
            yield f"method: {method}", replace(asked, method=method), {}
        for name in NAMES if "{" in asked.route else ():
            path = asked.route.format(model=name, name=name)
            yield f"name: {name[:20]}", replace(asked, path=path), {}
        if asked.method == "GET":
            continue
        for name, body in BODIES.items():
            yield f"body: {name}", asked.with_content(body), {}
        for place, wrong in _wrong_bodies(asked.body):
            yield place, asked.with_body(wrong), {}


def _wrong_bodies(body: Any) -> Iterator[tuple[str, Any]]:
    """Bodies in which one field is missing, wrong, or too much."""
    if not isinstance(body, dict):
        return
    yield "one field more", body | {"surprise": 1}
    for field in body:
        yield f"without {field}", {name: body[name] for name in body if name != field}
        for name, value in VALUES.items():
            yield f"{field}: {name}", body | {field: value}
        for place, wrong in _wrong_bodies(body[field]):
            yield f"{field}.{place}", body | {field: wrong}
