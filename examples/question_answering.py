"""Answers from a handbook: `python examples/question_answering.py "who may use the big saw?"`.

Retrieval in two steps. Passages are found by what they mean as a whole; of the best ones each
sentence is compared with the question, together with its passage, which says what it is about.
Below a threshold the honest answer is that the handbook does not say.
"""

import os
import re
import sys

import httpx
import numpy as np

URL = os.environ.get("ENCSERVE_URL", "http://127.0.0.1:8080")
PASSAGES_READ = 2
LEAST_COSINE = 0.35

HANDBOOK = """
The workshop opens at eight in the morning and closes at nine in the evening. On Sundays it stays
shut. Members with a key may come at any hour, but no machine may run after ten at night.

Membership costs twenty euros a month. Students and pensioners pay half. The fee is due on the
first day of the month. Whoever is two months late loses the key until the debt is paid.

The table saw may be used only after the safety course. The course takes an evening and is held on
the first Tuesday of the month. Ear protection hangs beside the door. Long sleeves are forbidden.

The laser cutter must be booked a day ahead on the list beside it. It cuts plywood up to six
millimetres and acrylic up to four. PVC is forbidden, as its fumes are poisonous.

The 3D printers are free of charge, but the filament is weighed and paid for at the counter. A gram
costs four cents. Failed prints go into the grey box and are melted down.

In case of fire leave through the yard, not through the stairs. The extinguishers hang beside the
saw and in the kitchen. The meeting point is the old crane on the other side of the street.
"""


def embed(texts: list[str]) -> np.ndarray:
    """[texts] -> [texts, 384] float32, each row of length 1."""
    answer = httpx.post(f"{URL}/v1/embeddings", json={"input": texts}, timeout=30)
    answer.raise_for_status()
    return np.array([row["embedding"] for row in answer.json()["data"]], np.float32)


def answer_to(question: str) -> str | None:
    """The sentence of the handbook that is nearest to the question, None if none is near."""
    passages = [" ".join(passage.split()) for passage in HANDBOOK.strip().split("\n\n")]
    vectors = embed([question, *passages])
    asked, near = vectors[0], np.argsort(-(vectors[1:] @ vectors[0]))[:PASSAGES_READ]
    sentences = [
        (sentence, place) for place in near for sentence in re.split(r"(?<=\.) ", passages[place])
    ]
    alone = embed([sentence for sentence, _ in sentences]) @ asked
    about = np.array([vectors[1 + place] @ asked for _, place in sentences])
    cosines = (alone + about) / 2
    best = int(cosines.argmax())
    return sentences[best][0] if cosines[best] >= LEAST_COSINE else None


if __name__ == "__main__":
    asked = " ".join(sys.argv[1:]) or "who may use the big saw?"
    print(answer_to(asked) or "The handbook does not say.")
