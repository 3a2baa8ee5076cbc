"""Routing of dialogue turns: which desk is meant, and when a person should take over.

A desk is described by a few turns that belong to it. A new turn goes to the desk of its nearest
descriptions; if even those are far, it stays where the dialogue was. A customer who was negative
twice in a row is handed to a person, whatever the desk. Reads turns from standard input if it is
no terminal, else a dialogue of its own.
"""

import os
import sys

import httpx
import numpy as np

URL = os.environ.get("ENCSERVE_URL", "http://127.0.0.1:8080")
NEAREST = 2
LEAST_COSINE = 0.3
SURELY_NEGATIVE = 0.7

DESKS = {
    "billing": [
        "I was charged twice this month.",
        "Why is my bill higher than last time?",
        "Can you send the invoice to my accountant?",
        "I want my money back.",
    ],
    "technical": [
        "The internet connection drops every few minutes.",
        "The router only shows a red light.",
        "I cannot open the app since the update.",
        "How do I set up the wireless network?",
    ],
    "contract": [
        "I would like to cancel my contract.",
        "When does my contract end?",
        "Is there a cheaper plan for me?",
        "I am moving; can I take the contract along?",
    ],
}
DIALOGUE = [
    "Hello, the connection has been gone since this morning.",
    "The lamp on the router is red.",
    "ok",
    "I restarted it three times already, this is a joke.",
    "Still nothing. I am really fed up with your terrible service.",
    "And then you take forty euros too much from my account!",
]


def ask(path: str, texts: list[str]) -> list[dict]:
    answer = httpx.post(f"{URL}/v1/{path}", json={"input": texts}, timeout=30)
    answer.raise_for_status()
    return answer.json()["data"]


def embed(texts: list[str]) -> np.ndarray:
    """[texts] -> [texts, 384] float32, each row of length 1."""
    return np.array([row["embedding"] for row in ask("embeddings", texts)], np.float32)


def route(turns: list[str]) -> list[str]:
    """The desk of each turn, `person` from the second angry turn in a row on."""
    described = [(desk, turn) for desk, turns_of in DESKS.items() for turn in turns_of]
    vectors = embed([turn for _, turn in described])
    moods = ask("sentiment", turns)
    desks, desk, angry = [], "reception", 0
    for vector, mood in zip(embed(turns), moods, strict=True):
        cosines = vectors @ vector
        scores = {
            name: float(np.sort(cosines[[one == name for one, _ in described]])[-NEAREST:].mean())
            for name in DESKS
        }
        best = max(scores, key=scores.__getitem__)
        desk = best if scores[best] >= LEAST_COSINE else desk
        angry = angry + 1 if mood["scores"]["negative"] >= SURELY_NEGATIVE else 0
        desks.append("person" if angry >= 2 or "person" in desks else desk)
    return desks


if __name__ == "__main__":
    said = DIALOGUE if sys.stdin.isatty() else [line.strip() for line in sys.stdin if line.strip()]
    for turn, desk in zip(said or DIALOGUE, route(said or DIALOGUE), strict=True):
        print(f"{desk:<10} {turn}")
