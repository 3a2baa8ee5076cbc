"""Near-duplicates: lines that say the same thing, in groups: `near_duplicates.py reviews.txt`.

Every pair whose cosine reaches the threshold is joined, and whatever hangs together is a group.
The threshold decides how alike is alike: 0.9 finds typing errors and reordered words, 0.75 also
the same thing said in other words.
"""

import os
import sys
from pathlib import Path

import httpx
import numpy as np

URL = os.environ.get("ENCSERVE_URL", "http://127.0.0.1:8080")
LEAST_COSINE = 0.75
TEXTS_A_REQUEST = 256

TICKETS = [
    "The printer on the second floor does not print.",
    "Printer on 2nd floor is not printing anything",
    "Please order new coffee for the kitchen.",
    "My laptop gets very hot and shuts down.",
    "The second floor printer isn't printing.",
    "We have run out of coffee in the kitchen, please order some.",
    "The meeting room needs a new projector.",
    "laptop overheats and turns itself off",
]


def embed(texts: list[str]) -> np.ndarray:
    """[texts] -> [texts, 384] float32, each row of length 1."""
    rows = []
    for start in range(0, len(texts), TEXTS_A_REQUEST):
        asked = texts[start : start + TEXTS_A_REQUEST]
        answer = httpx.post(f"{URL}/v1/embeddings", json={"input": asked}, timeout=60)
        answer.raise_for_status()
        rows += [row["embedding"] for row in answer.json()["data"]]
    return np.array(rows, np.float32)


def groups(texts: list[str]) -> list[list[int]]:
    """Places of the texts that belong together, the largest group first; lone ones are left out."""
    vectors = embed(texts)
    group_of = list(range(len(texts)))
    for place, vector in enumerate(vectors):
        for other in np.flatnonzero(vectors[:place] @ vector >= LEAST_COSINE):
            old, new = group_of[place], group_of[other]
            group_of = [new if group == old else group for group in group_of]
    found = [[p for p, group in enumerate(group_of) if group == one] for one in set(group_of)]
    return sorted((group for group in found if len(group) > 1), key=lambda g: (-len(g), g))


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().splitlines() if len(sys.argv) > 1 else TICKETS
    lines = [line.strip() for line in lines if line.strip()]
    for number, group in enumerate(groups(lines), start=1):
        print(f"group {number}")
        for place in group:
            print(f"  {place + 1}: {lines[place]}")
