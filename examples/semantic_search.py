"""Semantic search over a small FAQ: `python examples/semantic_search.py "my parcel never came"`.

All entries are embedded once. A question is embedded the same way; as the vectors have length 1,
their products are cosines, and the largest belong to the entries that mean most nearly the same.
"""

import os
import sys

import httpx
import numpy as np

URL = os.environ.get("ENCSERVE_URL", "http://127.0.0.1:8080")
SHOWN = 3

FAQ = {
    "How long does delivery take?": "Two to four working days; to the islands up to a week.",
    "Where is my order?": "The link in the shipping mail shows where the carrier scanned it last.",
    "What if a package gets lost?": "Tell us after ten days and we send it again, free of charge.",
    "Can I return something I do not like?": "Yes, within 30 days, unused and in its box.",
    "When do I get my money back?": "Five days after the return has reached our warehouse.",
    "The item is broken. What now?": "Send us a photograph; you get a new one or your money.",
    "Which ways of paying are there?": "Card, bank transfer, or on account for companies.",
    "Why was my card declined?": "Mostly the bank blocks a first payment; confirm it in its app.",
    "How do I change my password?": "Under Settings, Security. You stay signed in here only.",
    "I cannot sign in any more.": "Ask for a new link below the sign-in form; it lasts an hour.",
    "How do I delete my account?": "Under Settings, Privacy. Invoices are kept for ten years.",
    "Do you ship abroad?": "To all of Europe; duties outside the union are the buyer's.",
    "Can I change the address of an order?": "Until it is packed, usually for two hours.",
    "Do you have a shop that I can visit?": "In the harbour district, weekdays from ten to six.",
    "How do I get an invoice?": "It comes with the shipping mail, and lies under Orders as well.",
    "Are there discounts for schools?": "Ten per cent, once we have seen a letter of the school.",
}


def embed(texts: list[str]) -> np.ndarray:
    """[texts] -> [texts, 384] float32, each row of length 1."""
    answer = httpx.post(f"{URL}/v1/embeddings", json={"input": texts}, timeout=30)
    answer.raise_for_status()
    return np.array([row["embedding"] for row in answer.json()["data"]], np.float32)


def main(question: str) -> None:
    entries = list(FAQ)
    vectors = embed(entries)
    (asked,) = embed([question])
    cosines = vectors @ asked
    for place in np.argsort(-cosines)[:SHOWN]:
        print(f"{cosines[place]:.2f}  {entries[place]}\n      {FAQ[entries[place]]}")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "my parcel never came")
