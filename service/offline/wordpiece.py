"""A WordPiece tokenizer learned from raw texts, in the form that BERT's checkpoints have."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from service.errors import CheckpointInvalid

PADDING, UNKNOWN, CLASS, SEPARATOR, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
# In the order of their ids, which are the first of a vocabulary learned here; not of others.
SPECIAL_TOKENS = (PADDING, UNKNOWN, CLASS, SEPARATOR, MASK)
MIN_FREQUENCY = 2
# All at once, 100,000 texts of 25 tokens took 560 MiB; so they take 28.
TEXTS_AT_A_TIME = 1000

Int32Array = npt.NDArray[np.int32]


def train_wordpiece(
    texts: Sequence[str], vocabulary_size: int, *, lowercase: bool = True
) -> Tokenizer:
    """Learn at most `vocabulary_size` pieces (Schuster and Nakajima, 2012) that occur twice.

    Chinese characters are words of their own, as in BERT: no word boundaries need be known.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        min_frequency=MIN_FREQUENCY,
        limit_alphabet=max(1, vocabulary_size * 3 // 4),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLASS} $A {SEPARATOR}",
        pair=f"{CLASS} $A {SEPARATOR} $B:1 {SEPARATOR}:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (CLASS, SEPARATOR)],
    )
    return tokenizer


def read_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer of another model, if it has all `SPECIAL_TOKENS`, whatever their ids.

    Raises:
        CheckpointInvalid: it has not, or the file is none of a tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointInvalid(
            f"{file} cannot be read as a tokenizer.json: name one, or leave --tokenizer out to "
            "learn one from the texts"
        ) from error
    missing = [name for name in SPECIAL_TOKENS if tokenizer.token_to_id(name) is None]
    if missing:
        raise CheckpointInvalid(
            f"{file} has no {', '.join(missing)}: name a tokenizer of BERT's form, or leave "
            "--tokenizer out to learn one from the texts"
        )
    return tokenizer


def special_id_of(tokenizer: Tokenizer, name: str) -> int:
    """Of one of `SPECIAL_TOKENS`, all of which the tokenizer has."""
    found = tokenizer.token_to_id(name)
    assert found is not None
    return found


def special_ids_of(tokenizer: Tokenizer) -> list[int]:
    """Of `SPECIAL_TOKENS`, and of all else that the tokenizer says is no piece of a word."""
    added = tokenizer.get_added_tokens_decoder().items()
    named = {special_id_of(tokenizer, name) for name in SPECIAL_TOKENS}
    return sorted(named | {index for index, token in added if token.special})


def vocabulary_size_of(tokenizer: Tokenizer) -> int:
    """Rows that a table of all its ids has: between those of others some may be unused."""
    return 1 + max(tokenizer.get_vocab().values())


def encode_in_portions(
    tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int
) -> list[Int32Array]:
    """Token ids of all texts; a long one in portions of `max_tokens`, special tokens included."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    portions: list[Int32Array] = []
    for at in range(0, len(texts), TEXTS_AT_A_TIME):
        for encoding in tokenizer.encode_batch(list(texts[at : at + TEXTS_AT_A_TIME])):
            parts = (encoding, *encoding.overflowing)
            portions += [np.array(part.ids, dtype=np.int32) for part in parts]
    tokenizer.no_truncation()
    return portions


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
