"""`encserve export`: whatever encoder it is, by the layout that suits it, as its files say."""

import random
from collections.abc import Sequence

from service.errors import InvalidField
from service.offline.checkpoint_heads import Head, classification_model
from service.offline.checkpoints import DEFAULT_BASE, Checkpoint, is_packed, load_checkpoint
from service.offline.corpus import load_sentiment_corpus
from service.offline.data import Input, ScoredPair
from service.offline.export import TrainingRecord, publish, publish_embedding
from service.offline.gate import compare_on_pairs
from service.offline.label_files import separator_id_of
from service.offline.model_folder import CONFIG_FILE, find_folder, read_json
from service.offline.padded_export import publish_padded
from service.offline.padded_models import load_padded
from service.offline.progress import Progress
from service.offline.variants import Judge
from service.store.repository import ModelRepository, PublishedModel, check_name


def export_model(
    repository: ModelRepository,
    name: str,
    progress: Progress,
    *,
    base: str = DEFAULT_BASE,
    pairs: bool | None = None,
    max_tokens: int | None = None,
    scored_pairs: Sequence[ScoredPair] | None = None,
) -> PublishedModel:
    """Export an encoder, embedding or classifying, as it is, and publish it as `name`.

    The BERT family is written in the packed layout, with an int8 variant where it earns it; other
    encoders of `transformers` in the padded layout, fp32 only.

    Args:
        base: a folder or a Hugging Face id.
        pairs: whether a classifier reads pairs; None: as its files let one guess.
        max_tokens: cut longer texts; None: as the authors do.
        scored_pairs: decide whether int8 is good enough, instead of the project's own sentences;
            of embeddings of the packed layout.

    Raises:
        CheckpointInvalid: it is no encoder that can be exported; the message says why.
        InvalidField: no model can have this name; or `scored_pairs` for one that cannot be judged
            by them.
        ParityFailed: the ONNX file computes something else; the store is as it was.
    """
    check_name(name)
    if is_packed(read_json(find_folder(base) / CONFIG_FILE)):
        checkpoint = load_checkpoint(base, pairs=pairs, max_tokens=max_tokens)
        if checkpoint.head is None:
            judge = _judge(scored_pairs) if scored_pairs else None
            return publish_embedding(repository, name, checkpoint, progress, _sentences(), judge)
        _refuse(scored_pairs)
        return _publish_classifier(repository, name, checkpoint, checkpoint.head, progress)
    _refuse(scored_pairs)
    padded = load_padded(base, pairs=pairs, max_tokens=max_tokens)
    return publish_padded(repository, name, padded, progress)


def _publish_classifier(
    repository: ModelRepository,
    name: str,
    checkpoint: Checkpoint,
    head: Head,
    progress: Progress,
) -> PublishedModel:
    separator_id = separator_id_of(head.use, checkpoint.tokenizer_file)
    record = TrainingRecord(
        labels=head.use.labels,
        metrics={},
        data_sha256=None,
        seed=None,
        problem_type=head.use.problem_type,
        pair_separator_id=separator_id,
    )
    inputs: Sequence[Input] = _sentences() if separator_id is None else _pairs_of(_sentences())
    model = classification_model(checkpoint.encoder, head)
    return publish(repository, name, model, checkpoint, progress, inputs, training=record)


def _sentences() -> list[str]:
    return [example.text for example in load_sentiment_corpus()]


def _pairs_of(sentences: Sequence[str]) -> list[tuple[str, str]]:
    """Each sentence with another one, and half of them with a part of itself: alike and not."""
    others = random.Random(0).sample(sentences, len(sentences))
    return [
        (text, other if place % 2 else text[: len(text) // 2] or text)
        for place, (text, other) in enumerate(zip(sentences, others, strict=True))
    ]


def _judge(pairs: Sequence[ScoredPair]) -> Judge:
    return lambda fp32, int8: compare_on_pairs(fp32, int8, pairs)


def _refuse(scored_pairs: Sequence[ScoredPair] | None) -> None:
    if scored_pairs:
        raise InvalidField(
            "--int8-data has scored pairs, which judge embeddings of the BERT family: leave it out",
            param="int8_data",
        )
