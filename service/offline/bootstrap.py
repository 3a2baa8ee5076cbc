"""The default models: an embedding model and a sentiment model from one base encoder."""

from collections.abc import Sequence

from service.offline.checkpoints import DEFAULT_BASE, load_checkpoint
from service.offline.corpus import Example, ScoredPair, digest_of, load_sentiment_corpus
from service.offline.export import TrainingRecord, publish, publish_embedding
from service.offline.finetune import FinetuneConfig, finetune
from service.offline.gate import (
    Encode,
    Verdict,
    compare_labels,
    compare_on_examples,
    compare_on_pairs,
)
from service.offline.progress import Progress
from service.store.repository import ModelRepository, PublishedModel


def make_embedding(
    repository: ModelRepository,
    name: str,
    progress: Progress,
    *,
    base: str = DEFAULT_BASE,
    pairs: Sequence[ScoredPair] | None = None,
) -> PublishedModel:
    """Export `base` as an embedding model and publish it as `name`.

    Args:
        pairs: decide whether int8 is good enough, instead of the project's own sentences.
    """

    def judge_on_pairs(fp32: Encode, int8: Encode) -> Verdict:
        return compare_on_pairs(fp32, int8, pairs or ())

    sentences = [example.text for example in load_sentiment_corpus()]
    judge = judge_on_pairs if pairs else None
    return publish_embedding(repository, name, load_checkpoint(base), progress, sentences, judge)


def make_classifier(
    repository: ModelRepository,
    name: str,
    progress: Progress,
    *,
    examples: Sequence[Example] | None = None,
    base: str = DEFAULT_BASE,
    config: FinetuneConfig | None = None,
    test_examples: Sequence[Example] | None = None,
) -> PublishedModel:
    """Fine-tune `base` on `examples` (the project's sentiment corpus) and publish it as `name`.

    Args:
        test_examples: decide whether int8 is good enough, instead of the held-out texts.
    """
    config = config or FinetuneConfig()
    examples = load_sentiment_corpus() if examples is None else examples
    checkpoint = load_checkpoint(base)
    tuned = finetune(checkpoint, examples, config, progress, name)

    def judge(fp32: Encode, int8: Encode) -> Verdict:
        if test_examples:
            return compare_on_examples(fp32, int8, test_examples, tuned.labels)
        return compare_labels(fp32, int8, tuned.held_out)

    training = TrainingRecord(tuned.labels, tuned.metrics, digest_of(examples), config.seed)
    sentences = [example.text for example in examples]
    return publish(repository, name, tuned.model, checkpoint, progress, sentences, judge, training)
