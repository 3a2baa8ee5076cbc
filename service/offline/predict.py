"""A model folder through the runtime that serves: texts or pairs in, rows, scores or vectors out.

The folder may be a published version or a draft that is about to become one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import ModelCorrupt
from service.offline.data import Input
from service.runtime.outputs import label_scores, unit_length
from service.runtime.session import ENCODERS, TokenEncoder, open_session
from service.runtime.tokenizer import Tokenized, Tokenizer
from service.store.golden import Golden
from service.store.manifest import TOKENIZER_FILE, ManifestFields

FloatArray = npt.NDArray[np.float32]

TEXTS_PER_RUN = 8
# Ours, as they are published with the model: never a text that somebody trained on.
GOLDEN_TEXTS = (
    "The train leaves at nine.",
    "Good food, and a room with a view of the harbour.",
    "No.",
    "Zwei Kaffee für 3,50 €, nicht schlecht!",
)
GOLDEN_PAIRS = (
    ("When does it leave?", GOLDEN_TEXTS[0]),
    (GOLDEN_TEXTS[1], GOLDEN_TEXTS[2]),
)


class Predictor:
    """One variant of a model; `fields` is its manifest, or what will become it.

    Args:
        threads: cores that one run uses; speed is told of one.

    Raises:
        ModelCorrupt: onnxruntime cannot load the file, or its inputs are not those of the layout.
    """

    def __init__(
        self, folder: Path, fields: ManifestFields, variant: str, *, threads: int = 1
    ) -> None:
        self.fields = fields
        self.variant = variant
        self.tokenizer = Tokenizer(
            folder / TOKENIZER_FILE, fields.max_tokens, pairs=fields.pair_separator_id is not None
        )
        session = open_session(folder / fields.variants[variant].file, threads=threads)
        self.encoder = ENCODERS[fields.layout](
            session, fields.output, fields.width, fields.pair_separator_id
        )

    def tokenize(self, inputs: Sequence[Input]) -> list[Tokenized]:
        """All of `inputs` are texts, or all are pairs; the prompt is put before texts as served."""
        texts = [self.fields.prompt + entry for entry in inputs if isinstance(entry, str)]
        pairs = [entry for entry in inputs if not isinstance(entry, str)]
        return self.tokenizer.encode(texts) if texts else self.tokenizer.encode_pairs(pairs)

    def rows(self, inputs: Sequence[Input]) -> FloatArray:
        """What the graph answers, [n, width] in the order of `inputs`: logits or embeddings."""
        tokens = [entry.token_ids for entry in self.tokenize(inputs)]
        # Neighbours in length run together.
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
        runs = [order[at : at + TEXTS_PER_RUN] for at in range(0, len(order), TEXTS_PER_RUN)]
        rows = np.concatenate([self.encoder([tokens[index] for index in run]) for run in runs])
        in_order: FloatArray = rows[np.argsort(order)]
        return unit_length(in_order) if self.fields.normalized else in_order

    def token_rows(self, inputs: Sequence[Input]) -> Iterator[FloatArray]:
        """The vectors of each input's tokens, [tokens of the input, d]; one input at a time.

        Raises:
            ModelCorrupt: the model has none.
        """
        if self.fields.token_output is None:
            raise ModelCorrupt("the model has no vectors of tokens")
        encoder = TokenEncoder(self.encoder, self.fields.token_output)
        for entry in self.tokenize(inputs):
            yield from encoder([entry.token_ids])

    def scores(self, inputs: Sequence[Input]) -> FloatArray:
        """What callers of a classifier are given, [n, labels]: probabilities, or numbers."""
        return label_scores(self.rows(inputs), self.fields.problem_type)


def golden_texts(folder: Path, fields: ManifestFields) -> list[Golden]:
    """What each variant answers to a few sentences of ours, for the server to ask again."""
    predictors = {variant: Predictor(folder, fields, variant) for variant in fields.variants}
    pairs = fields.pair_separator_id is not None
    inputs: list[Input] = list(GOLDEN_PAIRS if pairs else GOLDEN_TEXTS)
    tokenized = next(iter(predictors.values())).tokenize(inputs)
    return [
        Golden(
            text=entry[0] if isinstance(entry, tuple) else fields.prompt + entry,
            second=entry[1] if isinstance(entry, tuple) else None,
            token_ids=tuple(tokens.token_ids),
            rows={
                variant: tuple(predictor.encoder([tokens.token_ids])[0].tolist())
                for variant, predictor in predictors.items()
            },
        )
        for entry, tokens in zip(inputs, tokenized, strict=True)
    ]
