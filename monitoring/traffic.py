"""Callers of a server who note all that they send and get, so that counts can be compared."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle

import httpx2

EMBEDDINGS, SENTIMENT, CLASSIFY = "/v1/embeddings", "/v1/sentiment", "/v1/classify"
FEEDBACK = "/v1/feedback"
LABELS = ("negative", "neutral", "positive")
# A sentence of this word is longer than any model reads.
LONG_TEXT = "food " * 600
# What callers do wrong.
MISTAKES: tuple[dict[str, object], ...] = (
    {"input": " "},
    {"input": "food", "model": "nothing"},
    {"input": "food", "dimensions": 10**6},
)
FEEDBACK_SHARE = 0.3
MISTAKE_SHARE = 0.03
AGAIN_SHARE = 0.2
THINK_S = 0.01


@dataclass
class Sent:
    """What callers saw: requests by endpoint and outcome, answers by endpoint, model and version,
    texts by the model and version that answered.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    answered: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    texts: Counter[tuple[str, str]] = field(default_factory=Counter)
    truncated: Counter[tuple[str, str]] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)

    def note(self, endpoint: str, texts: int, answer: httpx2.Response) -> None:
        """One request is over; `endpoint` as the route is declared."""
        if not answer.is_success:
            self.requests[endpoint, answer.json()["error"]["code"]] += 1
            return
        self.requests[endpoint, "ok"] += 1
        model = answer.headers.get("x-model")
        if model is None:
            return
        version = answer.headers["x-model-version"]
        self.answered[endpoint, model, version] += 1
        self.texts[model, version] += texts
        self.truncated[model, version] += int(answer.headers["x-truncated-texts"])


class Callers:
    """Clients of the server at `url` that has the models `embedding` and `sentiment`."""

    def __init__(self, url: str, texts: Sequence[str], keys: Sequence[str], admin_key: str) -> None:
        self.sent = Sent()
        self._texts, self._keys = texts, keys
        self._rng = random.Random(0)
        self._admin = {"Authorization": f"Bearer {admin_key}"}
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=200)
        self._client = httpx2.AsyncClient(base_url=url, limits=limits, timeout=60)

    async def close(self) -> None:
        await self._client.aclose()

    async def change(self, model: str, action: str, **body: object) -> httpx2.Response:
        """Ask for a change of the models; the route's answer, whatever it is."""
        answer = await self._client.post(
            f"/admin/models/{model}/{action}", json=body, headers=self._admin
        )
        self.sent.note(f"/admin/models/{{name}}/{action}", 0, answer)
        return answer

    async def send(self, clients: int, seconds: float) -> None:
        """So many clients, each with its next request soon after the last answer."""
        loop = asyncio.get_running_loop()
        stop_s = loop.time() + seconds

        async def client() -> None:
            while loop.time() < stop_s:
                await self._one_request()
                await asyncio.sleep(self._rng.expovariate(1 / THINK_S))

        await asyncio.gather(*(client() for _ in range(clients)))

    async def err(self) -> None:
        """Make every mistake once."""
        for wrong in MISTAKES:
            await self._ask(EMBEDDINGS, wrong)

    @property
    def outcomes(self) -> set[str]:
        """All that has become of requests so far."""
        return {outcome for _, outcome in self.sent.requests}

    async def crowd(self, requests: int, texts_each: int) -> None:
        """Large requests, all at once, each key in turn: more than a key may, and than all may."""
        texts = [
            [f"{self._rng.choice(self._texts)} {self._rng.random()}" for _ in range(texts_each)]
            for _ in range(requests)
        ]
        keys = cycle(self._keys)
        await asyncio.gather(
            *(
                self._ask(EMBEDDINGS, {"input": one}, key)
                for one, key in zip(texts, keys, strict=False)
            )
        )

    async def _one_request(self) -> None:
        rng = self._rng
        if rng.random() < MISTAKE_SHARE:
            await self._ask(EMBEDDINGS, rng.choice(MISTAKES))
            return
        some = [self._text() for _ in range(rng.randint(1, 4))]
        endpoint = rng.choice((EMBEDDINGS, EMBEDDINGS, SENTIMENT, CLASSIFY))
        if endpoint == EMBEDDINGS:
            await self._ask(EMBEDDINGS, {"input": some})
        else:
            await self._classify(endpoint, some)

    async def _classify(self, endpoint: str, texts: list[str]) -> None:
        key = self._rng.choice(self._keys)
        answer = await self._ask(endpoint, {"input": texts, "model": "sentiment"}, key)
        if not answer.is_success:
            return
        labels = [row["label"] for row in answer.json()["data"]]
        self.sent.labels.update(labels)
        if self._rng.random() < FEEDBACK_SHARE:
            await self._judge(answer.headers["x-request-id"], labels[0], key)

    async def _judge(self, request_id: str, label: str, key: str) -> None:
        """Most labels were right, some were not."""
        true = label if self._rng.random() < 0.8 else self._rng.choice(LABELS)
        body = {"request_id": request_id, "index": 0, "label": true}
        await self._post(FEEDBACK, body, key)
        self.sent.judged["right" if true == label else "wrong"] += 1

    async def _ask(self, endpoint: str, body: dict[str, object], key: str = "") -> httpx2.Response:
        """A request with some key, or with the given one."""
        texts = body.get("input")
        count = len(texts) if isinstance(texts, list) else 1
        return await self._post(endpoint, body, key or self._rng.choice(self._keys), count)

    async def _post(
        self, endpoint: str, body: dict[str, object], key: str, texts: int = 0
    ) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"}
        answer = await self._client.post(endpoint, json=body, headers=headers)
        self.sent.keys[key] += 1
        self.sent.note(endpoint, texts, answer)
        return answer

    def _text(self) -> str:
        """Some are asked again, some are too long, the others are new."""
        text = self._rng.choice(self._texts)
        chance = self._rng.random()
        if chance < AGAIN_SHARE:
            return text
        return LONG_TEXT if chance > 0.98 else f"{text} {self._rng.randrange(10**6)}"
