"""Encoders of other families, as `transformers` computes them, with what makes one row a text.

They read the padded layout (`service.runtime.padding`): n texts filled up on the right to the
longest, l tokens. What fills them up is id 0 whatever the model's padding id: the mask hides it,
and families that count positions from the padding id count the tokens before it all the same.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn

from service.errors import CheckpointInvalid
from service.offline.heads import TOKEN_OUTPUT
from service.offline.label_files import (
    ClassifierUse,
    classifier_use,
    is_classifier,
    separator_id_of,
)
from service.offline.model_folder import (
    CONFIG_FILE,
    digest_of_files,
    find_folder,
    longest_input,
    marks_segments,
    read_json,
    tokenizer_of,
)
from service.offline.sentence_files import EmbeddingUse, embedding_use
from service.runtime.padding import PADDED_INPUTS

OutputName = Literal["embedding", "logits"]


class PaddedModel(nn.Module):
    """A model of `transformers`: [n, l] int64 each -> [n, width] float32, embeddings or logits.

    Args:
        transformer: answers token vectors for embeddings, else logits.
        use: how the authors use it.
        inputs: those of `PADDED_INPUTS` that it reads.
    """

    def __init__(
        self,
        transformer: Any,
        use: EmbeddingUse | ClassifierUse,
        inputs: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.use = use
        self.inputs = inputs
        self.projection = use.projection if isinstance(use, EmbeddingUse) else None

    @property
    def output_name(self) -> OutputName:
        return "embedding" if isinstance(self.use, EmbeddingUse) else "logits"

    @property
    def width(self) -> int:
        if isinstance(self.use, ClassifierUse):
            return len(self.use.labels)
        if self.projection is not None:
            return self.projection.width
        return int(self.transformer.config.hidden_size)

    @property
    def vocabulary_size(self) -> int:
        return int(self.transformer.config.vocab_size)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns: of an embedding model also the vectors of tokens."""
        tokens = (TOKEN_OUTPUT,) if isinstance(self.use, EmbeddingUse) else ()
        return (self.output_name, *tokens)

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """`arrays` are those of `inputs`, in their order: -> [n, width], and [n, l, d].

        Vectors are not yet scaled to unit length.
        """
        named = dict(zip(self.inputs, arrays, strict=True))
        answer = self.transformer(**named)
        if isinstance(self.use, ClassifierUse):
            return (answer.logits,)
        vectors = _pooled(answer.last_hidden_state, named["attention_mask"], self.use)
        if self.projection is not None:
            vectors = self.projection(vectors)
        return vectors, answer.last_hidden_state


@dataclass(frozen=True)
class PaddedCheckpoint:
    """A base model of another family, ready to be exported.

    separator_id: ends the first text of a pair; None for a model of single texts.
    """

    name: str
    sha256: str
    model: PaddedModel
    tokenizer_file: Path
    max_tokens: int
    separator_id: int | None


def load_padded(
    base: str, *, pairs: bool | None = None, max_tokens: int | None = None
) -> PaddedCheckpoint:
    """A local folder or a Hugging Face id, with weights in safetensors; no code of it is run.

    Args:
        pairs, max_tokens: as in `load_checkpoint`.

    Raises:
        CheckpointInvalid: files are missing, or `transformers` has no such encoder.
    """
    folder = find_folder(base)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise CheckpointInvalid(f"{folder} holds no .safetensors: pickled weights are not read")
    tokenizer_file = tokenizer_of(folder)
    config = read_json(folder / CONFIG_FILE)
    classifies = is_classifier(folder, config)
    use = classifier_use(folder, config, pairs) if classifies else embedding_use(folder)
    transformer = _load(folder, classifies=classifies)
    return PaddedCheckpoint(
        name=base,
        sha256=digest_of_files(weights),
        model=PaddedModel(transformer, use, _inputs(transformer, tokenizer_file)).eval(),
        tokenizer_file=tokenizer_file,
        max_tokens=longest_input(folder, _positions(transformer), max_tokens),
        separator_id=separator_id_of(use, tokenizer_file),
    )


def _load(folder: Path, *, classifies: bool) -> Any:
    kind = transformers.AutoModelForSequenceClassification if classifies else transformers.AutoModel
    try:
        with _quietly():
            model, loaded = kind.from_pretrained(
                folder,
                attn_implementation="eager",
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise CheckpointInvalid(f"transformers cannot load {folder}: {error}") from error
    if model.config.is_encoder_decoder:
        raise CheckpointInvalid(f"{folder} is an encoder and a decoder: only encoders are exported")
    # An encoder's own pooler is not used, and many checkpoints lack it.
    lacking = sorted(name for name in loaded["missing_keys"] if "pooler." not in name or classifies)
    if lacking:
        raise CheckpointInvalid(f"the checkpoint lacks {len(lacking)} tensors, first {lacking[0]}")
    return model.eval()


def _inputs(transformer: Any, tokenizer_file: Path) -> tuple[str, ...]:
    """Segments are asked for where the model knows two of them and the tokenizer marks them."""
    accepted = inspect.signature(transformer.forward).parameters
    segments = getattr(transformer.config, "type_vocab_size", 0) or 0
    if "token_type_ids" in accepted and segments > 1 and marks_segments(tokenizer_file):
        return PADDED_INPUTS
    return PADDED_INPUTS[:2]


def _positions(transformer: Any) -> int | None:
    """How many tokens have a position; None where any number has."""
    positions = getattr(transformer.config, "max_position_embeddings", None) or 0
    tables = (
        module
        for name, module in transformer.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    )
    # Families that count from the padding id leave the rows up to it unused.
    unused = [table.padding_idx + 1 for table in tables if table.padding_idx is not None]
    return positions - max(unused, default=0) if positions > 0 else None


def _pooled(hidden: Tensor, mask: Tensor, use: EmbeddingUse) -> Tensor:
    """[n, l, d] -> [n, d]"""
    if use.pooling == "cls":
        return hidden[:, 0]
    kept = mask[:, :, None].to(hidden.dtype)
    return (hidden * kept).sum(dim=1) / kept.sum(dim=1)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the library's bars and hints, which are for those who train with it."""
    log: Any = transformers.logging  # its functions have no types
    level = log.get_verbosity()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        log.enable_progress_bar()
