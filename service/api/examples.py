"""Worked examples of /docs: requests, and what the default models answered to them.

Tests send every request, and compare the answers with those of freshly made models.
`make examples` asks the models of the store, and writes `example_answers.py` anew.
"""

from typing import Any

from service.api.example_answers import ANSWERS

Examples = dict[str, dict[str, Any]]


def answers(path: str) -> Examples:
    """What was answered to the examples of the route `path`, as OpenAPI has it."""
    return {name: {"value": answer} for name, answer in ANSWERS.get(path, {}).items()}


EMBEDDINGS_REQUESTS: Examples = {
    "one text": {
        "summary": "One text, cut to 4 dimensions",
        "value": {"input": "A quiet room with a view of the harbour.", "dimensions": 4},
    },
    "several texts": {
        "summary": "Several texts, as OpenAI's clients ask for them",
        "value": {
            "input": ["How do I reset my password?", "Steps to change a password"],
            "model": "embedding",
            "dimensions": 3,
            "encoding_format": "base64",
        },
    },
}

SENTIMENT_REQUESTS: Examples = {
    "several texts": {
        "summary": "Several texts",
        "value": {"input": ["The lift is out of order again.", "Breakfast is served until ten."]},
    },
}

CLASSIFY_REQUESTS: Examples = {
    "one text": {
        "summary": "One text, the model named",
        "value": {"input": "The staff could not have been kinder.", "model": "sentiment"},
    },
}

ANALYZE_REQUESTS: Examples = {
    "one text": {
        "summary": "One text, its vector cut to 3 dimensions",
        "value": {"input": "The staff could not have been kinder.", "dimensions": 3},
    },
}
