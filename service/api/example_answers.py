"""Made by `make examples`; see `examples.py`."""

from typing import Any

ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {
        "one text": {
            "object": "list",
            "model": "embedding",
            "data": [
                {
                    "object": "embedding",
                    "index": 0,
                    "embedding": [0.92475, 0.036229, 0.162659, 0.34215],
                    "truncated": False,
                    "full_tokens": 12,
                }
            ],
            "usage": {"prompt_tokens": 12, "total_tokens": 12},
        },
        "several texts": {
            "object": "list",
            "model": "embedding",
            "data": [
                {
                    "object": "embedding",
                    "index": 0,
                    "embedding": "dGqFPco+Kr9fdT6/",
                    "truncated": False,
                    "full_tokens": 9,
                },
                {
                    "object": "embedding",
                    "index": 1,
                    "embedding": "CGA1vVqV7T59fGK/",
                    "truncated": False,
                    "full_tokens": 7,
                },
            ],
            "usage": {"prompt_tokens": 16, "total_tokens": 16},
        },
    },
    "/v1/classify": {
        "one text": {
            "object": "list",
            "model": "sentiment",
            "version": "2",
            "data": [
                {
                    "index": 0,
                    "label": "positive",
                    "score": 0.970526,
                    "scores": {"negative": 0.026798, "neutral": 0.002675, "positive": 0.970526},
                    "truncated": False,
                    "full_tokens": 11,
                }
            ],
            "usage": {"prompt_tokens": 11, "total_tokens": 11},
        }
    },
    "/v1/sentiment": {
        "several texts": {
            "object": "list",
            "model": "sentiment",
            "version": "2",
            "data": [
                {
                    "index": 0,
                    "label": "negative",
                    "score": 0.985705,
                    "scores": {"negative": 0.985705, "neutral": 0.003357, "positive": 0.010938},
                    "truncated": False,
                    "full_tokens": 10,
                    "compound": -0.974766,
                },
                {
                    "index": 1,
                    "label": "neutral",
                    "score": 0.992695,
                    "scores": {"negative": 0.00222, "neutral": 0.992695, "positive": 0.005085},
                    "truncated": False,
                    "full_tokens": 8,
                    "compound": 0.002866,
                },
            ],
            "usage": {"prompt_tokens": 18, "total_tokens": 18},
        }
    },
    "/v1/analyze": {
        "one text": {
            "object": "list",
            "sentiment": {
                "model": "sentiment",
                "version": "2",
                "digest": "sha256:ec3434e84fe0ea9f609628514f6cbaad86dc4b2dc86c0b9deb4103405b1ad84a",
            },
            "embedding": {
                "model": "embedding",
                "version": "3",
                "digest": "sha256:c6f9eb9f1c146638d2d6f8b8a6a12bd255005544d835521becc570d13d395573",
            },
            "data": [
                {
                    "index": 0,
                    "sentiment": {
                        "index": 0,
                        "label": "positive",
                        "score": 0.970526,
                        "scores": {"negative": 0.026798, "neutral": 0.002675, "positive": 0.970526},
                        "truncated": False,
                        "full_tokens": 11,
                        "compound": 0.943728,
                    },
                    "embedding": {
                        "object": "embedding",
                        "index": 0,
                        "embedding": [-0.406422, 0.901672, 0.147674],
                        "truncated": False,
                        "full_tokens": 11,
                    },
                }
            ],
            "usage": {"prompt_tokens": 22, "total_tokens": 22},
        }
    },
}
