"""Worked examples of /docs: requests, and what the default models answered to them.

Tests send every request, and compare the answers with those of freshly made models.
`make examples` asks the models of the store, and writes `example_answers.json` anew.
"""

import json
from pathlib import Path
from typing import Any

Examples = dict[str, dict[str, Any]]


# Part of the package, as the code is.
ANSWERS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("example_answers.json").read_text()
)


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
        "value": {"input": "The staff were kind and the room was lovely.", "model": "sentiment"},
    },
}

ANALYZE_REQUESTS: Examples = {
    "one text": {
        "summary": "One text, its vector cut to 3 dimensions",
        "value": {"input": "The staff were kind and the room was lovely.", "dimensions": 3},
    },
}

EXPLAIN_REQUESTS: Examples = {
    "one text": {
        "summary": "One text",
        "value": {"input": "The room was clean, but the food was awful."},
    },
}

EMBED_REQUESTS: Examples = {
    "several texts": {
        "summary": "Several texts, cut to 3 dimensions",
        "value": {"inputs": ["A quiet room.", "A noisy street."], "dimensions": 3},
    },
}

EMBED_ALL_REQUESTS: Examples = {
    "one text": {"summary": "A vector for each token", "value": {"inputs": "Yes."}},
}

PREDICT_REQUESTS: Examples = {
    "one text": {
        "summary": "One text: one list of labels",
        "value": {"inputs": "The staff were kind and the room was lovely."},
    },
    "several texts": {
        "summary": "Several texts: a list each",
        "value": {
            "inputs": [
                ["The lift was broken and the stairs were filthy."],
                ["Breakfast is served until ten."],
            ]
        },
    },
}

SIMILARITY_REQUESTS: Examples = {
    "two sentences": {
        "summary": "Which sentence is nearer?",
        "value": {
            "inputs": {
                "source_sentence": "How do I reset my password?",
                "sentences": ["Steps to change a password", "Bake at 180 degrees."],
            }
        },
    },
}

RERANK_REQUESTS: Examples = {
    "two texts": {
        "summary": "Which text answers?",
        "value": {
            "query": "When does breakfast end?",
            "texts": ["The lift is out of order.", "Breakfast is served until ten."],
            "return_text": True,
        },
    },
}

TOKENIZE_REQUESTS: Examples = {
    "one text": {"summary": "Tokens and their places", "value": {"inputs": "Two words"}},
}

DECODE_REQUESTS: Examples = {
    "one list": {"summary": "Text of token ids", "value": {"ids": [101, 2048, 2616, 102]}},
}

ROOT_REQUESTS: Examples = {
    "vectors": {
        "summary": "Texts alone: the default model's task",
        "value": {"inputs": ["A quiet room."], "dimensions": 3},
    },
    "labels": {
        "summary": "Texts and parameters: labels, as huggingface_hub asks",
        "value": {"inputs": "A lovely, quiet room.", "parameters": {"top_k": 1}},
    },
    "own labels": {
        "summary": "Labels in your own words",
        "value": {
            "inputs": "The train is an hour late.",
            "parameters": {"candidate_labels": ["travel", "cooking"]},
        },
    },
}

INFER_REQUESTS: Examples = {
    "two texts": {
        "summary": "Two texts, cut to 3 dimensions",
        "value": {
            "inputs": [
                {
                    "name": "text",
                    "shape": [2],
                    "datatype": "BYTES",
                    "data": ["A quiet room.", "A noisy street."],
                }
            ],
            "parameters": {"dimensions": 3},
        },
    },
}

COHERE_REQUESTS: Examples = {
    "two forms": {
        "summary": "One text, as numbers and as bits",
        "value": {
            "texts": ["A quiet room."],
            "input_type": "search_document",
            "embedding_types": ["float", "ubinary"],
            "output_dimension": 8,
        },
    },
}

# What stands for the parts of a path in the examples.
PATH_PARTS = {"model": "embedding"}
