"""What a server answers, read once before the clock runs: a row a text, as unit vectors."""

import asyncio
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.lean_client import ask_once
from benchmarks.processes import Server
from benchmarks.traffic import Request


def vectors_of(server: Server, requests: Sequence[Request]) -> npt.NDArray[np.float64]:
    """Unit vectors of all texts of the requests, a row each.

    Raises:
        SystemExit: a request was refused, or its answer has not a vector a text.
    """
    rows: list[list[float]] = []
    for request in requests:
        answer = asyncio.run(ask_once(server.url, request.payload))
        data = orjson.loads(answer.body)["data"] if answer.status == 200 else []
        if len(data) != len(request.texts):
            raise SystemExit(f"{server.url}: {answer.status}, {len(data)} of {len(request.texts)}")
        rows += [entry["embedding"] for entry in data]
    vectors: npt.NDArray[np.float64] = np.array(rows)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
