"""Callers of a server who note all that they send and get, so that counts can be compared."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx2

EMBEDDINGS, SENTIMENT, EMBED = "/v1/embeddings", "/v1/sentiment", "/embed"
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

    def note(self, endpoint: str, texts: int, answer: httpx2.Response) -> None:
        """One request is over; `endpoint` as the route is declared."""
        if not answer.is_success:
            # The dialects write errors in their own ways, but a full queue is 429 in all of them.
            full = answer.status_code == 429
            code = "overloaded" if full else answer.json()["error"]["code"]
            self.requests[endpoint, code] += 1
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

    def __init__(self, url: str, texts: Sequence[str], admin_key: str, seed: int = 0) -> None:
        self.sent = Sent()
        self._texts = texts
        self._rng = random.Random(seed)
        self._key = {"Authorization": f"Bearer {admin_key}"}
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=200)
        self._client = httpx2.AsyncClient(base_url=url, limits=limits, timeout=60)

    async def close(self) -> None:
        await self._client.aclose()

    async def change(self, model: str, action: str, **body: object) -> httpx2.Response:
        """Ask for a change of the models; the route's answer, whatever it is."""
        answer = await self._client.post(
            f"/admin/models/{model}/{action}", json=body, headers=self._key
        )
        self.sent.note(f"/admin/models/{{name}}/{action}", 0, answer)
        return answer

    async def send(self, clients: int, seconds: float, *, extra: Sequence[str] = ()) -> None:
        """So many clients, each with its next request soon after the last answer.

        extra: texts that are among the others.
        """
        texts = [*self._texts, *extra]
        loop = asyncio.get_running_loop()
        stop_s = loop.time() + seconds

        async def client() -> None:
            while loop.time() < stop_s:
                await self._one_request(texts)
                await asyncio.sleep(self._rng.expovariate(1 / THINK_S))

        await asyncio.gather(*(client() for _ in range(clients)))

    async def err(self) -> None:
        """Make every mistake once."""
        for wrong in MISTAKES:
            await self._ask(EMBEDDINGS, wrong)

    async def crowd(self, requests: int, texts_each: int) -> None:
        """Large requests, all at once: more than the queue takes."""
        texts = [
            [f"{self._rng.choice(self._texts)} {self._rng.random()}" for _ in range(texts_each)]
            for _ in range(requests)
        ]
        await asyncio.gather(*(self._ask(EMBEDDINGS, {"input": one}) for one in texts))

    async def _one_request(self, texts: Sequence[str]) -> None:
        rng = self._rng
        if rng.random() < MISTAKE_SHARE:
            await self._ask(EMBEDDINGS, rng.choice(MISTAKES))
            return
        some = [self._text(texts) for _ in range(rng.randint(1, 4))]
        endpoint = rng.choice((EMBEDDINGS, SENTIMENT, SENTIMENT, EMBED))
        if endpoint == EMBED:
            await self._ask(EMBED, {"inputs": some})
        elif endpoint == EMBEDDINGS:
            await self._ask(EMBEDDINGS, {"input": some})
        else:
            await self._sentiment(some)

    async def _sentiment(self, texts: list[str]) -> None:
        answer = await self._ask(SENTIMENT, {"input": texts})
        if not answer.is_success:
            return
        labels = [row["label"] for row in answer.json()["data"]]
        self.sent.labels.update(labels)
        if self._rng.random() < FEEDBACK_SHARE:
            await self._judge(answer.headers["x-request-id"], labels[0])

    async def _judge(self, request_id: str, label: str) -> None:
        """Most labels were right, some were not."""
        true = label if self._rng.random() < 0.8 else self._rng.choice(LABELS)
        body = {"request_id": request_id, "index": 0, "label": true}
        answer = await self._client.post(FEEDBACK, json=body)
        self.sent.note(FEEDBACK, 0, answer)
        self.sent.judged["right" if true == label else "wrong"] += 1

    async def _ask(self, endpoint: str, body: dict[str, object]) -> httpx2.Response:
        answer = await self._client.post(endpoint, json=body)
        texts = body.get("input", body.get("inputs"))
        self.sent.note(endpoint, len(texts) if isinstance(texts, list) else 1, answer)
        return answer

    def _text(self, texts: Sequence[str]) -> str:
        """Some are asked again, some are too long, the others are new."""
        text = self._rng.choice(texts)
        chance = self._rng.random()
        if chance < AGAIN_SHARE:
            return text
        return LONG_TEXT if chance > 0.98 else f"{text} {self._rng.randrange(10**6)}"
