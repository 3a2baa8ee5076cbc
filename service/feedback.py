"""What callers say was right: live accuracy and calibration, and lines for the next fine-tuning.

Answers are remembered for a while by request id and key, without their texts; a text is kept only
where a caller sends it with the feedback and a file for it is set.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidField, UnknownRequest
from service.metrics import Metrics

CONFIDENCE_BUCKETS = 10
# In the place of the label of a text that failed.
NO_ANSWER = ""


@dataclass(frozen=True, slots=True)
class Remembered:
    """The labels that a request was answered with: by text, the label and its probability."""

    model: str
    version: str
    known: tuple[str, ...]
    labels: tuple[str, ...]
    scores: tuple[float, ...]


class Feedback:
    """Remembers the last answers, and takes what was right.

    Args:
        most_texts: the answers to so many are remembered; the oldest are forgotten first.
        file: where texts with their true labels are appended, as JSON lines.
    """

    def __init__(self, most_texts: int, file: Path | None, metrics: Metrics) -> None:
        self._answers: OrderedDict[tuple[str, str], Remembered] = OrderedDict()
        self._most_texts = most_texts
        self._texts = 0
        self._file = file
        self._metrics = metrics

    def remember(self, request_id: str, key: str, answer: Remembered) -> None:
        """An id that comes again from the same key stands for its last answer.

        Args:
            key: the name of the key that was answered; empty where there are none.
        """
        if (before := self._answers.pop((request_id, key), None)) is not None:
            self._texts -= len(before.labels)
        self._answers[request_id, key] = answer
        self._texts += len(answer.labels)
        while self._texts > self._most_texts:
            _, oldest = self._answers.popitem(last=False)
            self._texts -= len(oldest.labels)

    def take(self, request_id: str, key: str, index: int, label: str, text: str | None) -> bool:
        """Note the true label of one text; returns whether the answer had been right.

        Raises:
            UnknownRequest: no such request of that key is remembered.
            InvalidField: it had no such text, or its model has no such label.
        """
        answer = self._answers.get((request_id, key))
        if answer is None:
            raise UnknownRequest(
                "no answer of that request to this caller is remembered: those to the last "
                f"{self._most_texts} texts are (ENCSERVE_FEEDBACK_TEXTS)",
                param="request_id",
            )
        if not 0 <= index < len(answer.labels):
            raise InvalidField(
                f"index must be from 0 to {len(answer.labels) - 1} for this request", param="index"
            )
        if answer.labels[index] == NO_ANSWER:
            raise InvalidField("that text had an error instead of an answer", param="index")
        if label not in answer.known:
            raise InvalidField(
                f"label must be one of the model's: {', '.join(answer.known)}", param="label"
            )
        right = answer.labels[index] == label
        self._count(answer, answer.scores[index], right)
        if self._file is not None and text is not None:
            self._append({"text": text, "label": label, "model": answer.model})
        return right

    def _count(self, answer: Remembered, score: float, right: bool) -> None:
        labels = (answer.model, answer.version)
        self._metrics.feedback.labels(*labels, "right" if right else "wrong").inc()
        # By confidence, so that calibration can be drawn: the share of right ones in each bucket
        # should be the confidence itself.
        bucket = min(int(score * CONFIDENCE_BUCKETS), CONFIDENCE_BUCKETS - 1)
        upper = f"{(bucket + 1) / CONFIDENCE_BUCKETS:.1f}"
        self._metrics.feedback_confidence.labels(*labels, upper, str(right).lower()).inc()

    def _append(self, line: Mapping[str, str]) -> None:
        assert self._file is not None
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
