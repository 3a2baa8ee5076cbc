"""Worked examples of /docs: requests, and what the default models answered to them.

Tests send every request, and compare these answers with those of freshly made models.
"""

from typing import Any

Examples = dict[str, dict[str, Any]]

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

EMBEDDINGS_RESPONSES: Examples = {
    "one text": {
        "value": {
            "object": "list",
            "model": "embedding",
            "data": [
                {
                    "object": "embedding",
                    "index": 0,
                    "embedding": [0.90364724, -0.034965772, 0.14014551, 0.403185],
                }
            ],
            "usage": {"prompt_tokens": 12, "total_tokens": 12},
        }
    },
    "several texts": {
        "value": {
            "object": "list",
            "model": "embedding",
            "data": [
                {"object": "embedding", "index": 0, "embedding": "3IL4PSCqLr8CkDi/"},
                {"object": "embedding", "index": 1, "embedding": "Km8fPQdxuz7oBG6/"},
            ],
            "usage": {"prompt_tokens": 16, "total_tokens": 16},
        }
    },
}

SENTIMENT_REQUESTS: Examples = {
    "several texts": {
        "summary": "Several texts",
        "value": {"input": ["The lift is out of order again.", "Breakfast is served until ten."]},
    },
}

SENTIMENT_RESPONSES: Examples = {
    "several texts": {
        "value": {
            "object": "list",
            "model": "sentiment",
            "version": "1",
            "data": [
                {
                    "index": 0,
                    "label": "negative",
                    "score": 0.919,
                    "scores": {"negative": 0.919, "neutral": 0.019, "positive": 0.062},
                    "compound": -0.857,
                    "truncated": False,
                },
                {
                    "index": 1,
                    "label": "neutral",
                    "score": 0.962,
                    "scores": {"negative": 0.016, "neutral": 0.962, "positive": 0.022},
                    "compound": 0.005,
                    "truncated": False,
                },
            ],
            "usage": {"prompt_tokens": 18, "total_tokens": 18},
        }
    },
}

CLASSIFY_REQUESTS: Examples = {
    "one text": {
        "summary": "One text, the model named",
        "value": {"input": "The staff could not have been kinder.", "model": "sentiment"},
    },
}

CLASSIFY_RESPONSES: Examples = {
    "one text": {
        "value": {
            "object": "list",
            "model": "sentiment",
            "version": "1",
            "data": [
                {
                    "index": 0,
                    "label": "positive",
                    "score": 0.834,
                    "scores": {"negative": 0.15, "neutral": 0.016, "positive": 0.834},
                    "truncated": False,
                }
            ],
            "usage": {"prompt_tokens": 11, "total_tokens": 11},
        }
    },
}
