"""Every request also asked of another version, at low priority, and the answers compared."""

import asyncio
from dataclasses import dataclass, replace

import numpy as np

from service.access.purchases import UNLIMITED
from service.answers import Answer
from service.batching.queue import Priority
from service.engine import Again, Engine
from service.errors import EncserveError, InvalidField
from service.metrics import Metrics
from service.options import Options
from service.runtime.outputs import FloatArray, unit_length

# More than these wait for the shadow: it cannot keep up, and is left out.
MOST_WAITING = 64


@dataclass
class Comparison:
    """Sums over the texts that both versions have answered.

    disagreements: other labels. score_difference: mean over a text's labels. cosine: of vectors.
    infer_s, shadow_infer_s: by text, of the version that serves and of the shadow.
    """

    texts: int = 0
    disagreements: int = 0
    score_difference: float = 0.0
    cosine: float = 0.0
    infer_s: float = 0.0
    shadow_infer_s: float = 0.0

    def means(self) -> dict[str, float]:
        """Each by text; empty before the first."""
        if not self.texts:
            return {}
        names = ("disagreements", "score_difference", "cosine", "infer_s", "shadow_infer_s")
        return {name: getattr(self, name) / self.texts for name in names}


@dataclass(frozen=True)
class Bar:
    """What a comparison must reach before the other version may serve.

    max_disagreement, max_score_difference: of labels. min_cosine: of vectors. max_slowdown: times.
    """

    min_texts: int = 100
    max_disagreement: float = 0.02
    max_score_difference: float = 0.05
    min_cosine: float = 0.98
    max_slowdown: float = 1.5

    def require(self, found: Comparison, task: str) -> None:
        """Raise unless `found` reaches the bar.

        Raises:
            InvalidField: it does not; the message names what is short.
        """
        if found.texts < self.min_texts:
            raise InvalidField(
                f"only {found.texts} texts were compared, needed are {self.min_texts}"
            )
        mean = found.means()
        if task == "embedding":
            missed = mean["cosine"] < self.min_cosine
            told = f"the mean cosine is {mean['cosine']:.4f}, needed is {self.min_cosine}"
        else:
            missed = (
                mean["disagreements"] > self.max_disagreement
                or mean["score_difference"] > self.max_score_difference
            )
            told = (
                f"{mean['disagreements']:.2%} of the labels differ (allowed is "
                f"{self.max_disagreement:.2%}), scores by {mean['score_difference']:.4f} "
                f"({self.max_score_difference})"
            )
        if missed:
            raise InvalidField(told)
        if mean["shadow_infer_s"] > self.max_slowdown * mean["infer_s"] > 0:
            slower = mean["shadow_infer_s"] / mean["infer_s"]
            raise InvalidField(f"it is {slower:.2f} times as slow, allowed is {self.max_slowdown}")


class Shadow:
    """Compares `engine` with the version that serves; its failures harm nobody."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self.engine = engine
        self.found = Comparison()
        self._metrics = metrics
        self._labels = (engine.name, engine.version)
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, again: Again, options: Options, answer: Answer) -> None:
        """Ask the shadow the same, later; called on the event loop with each answer."""
        if len(self._tasks) >= MOST_WAITING:
            self._metrics.shadow_skipped.labels(*self._labels).inc()
            return
        bulk = replace(
            options, priority=Priority.BULK, timeout_s=None, account=UNLIMITED, work=None
        )
        task = asyncio.create_task(self._compare(again, bulk, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait for all comparisons under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(self, again: Again, options: Options, answer: Answer) -> None:
        try:
            other = await again(self.engine, options)
        except EncserveError as error:
            self._metrics.shadow_failures.labels(*self._labels, error.code).inc()
            return
        sound = [at for at in range(len(answer.rows)) if at not in answer.errors | other.errors]
        if sound:
            self._note(answer.rows[sound], other.rows[sound], answer, other)

    def _note(self, ours: FloatArray, theirs: FloatArray, answer: Answer, other: Answer) -> None:
        texts = len(ours)
        found = self.found
        found.texts += texts
        found.infer_s += answer.infer_s * texts
        found.shadow_infer_s += other.infer_s * texts
        self._metrics.shadow_texts.labels(*self._labels).inc(texts)
        if self.engine.manifest.task == "embedding":
            cosines = (unit_length(ours) * unit_length(theirs)).sum(axis=1)
            found.cosine += float(cosines.sum())
            for cosine in cosines.tolist():
                self._metrics.shadow_cosine.labels(*self._labels).observe(cosine)
            return
        differ = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
        differences = np.abs(ours - theirs).mean(axis=1)
        found.disagreements += differ
        found.score_difference += float(differences.sum())
        self._metrics.shadow_disagreements.labels(*self._labels).inc(differ)
        for difference in differences.tolist():
            self._metrics.shadow_score_difference.labels(*self._labels).observe(difference)
