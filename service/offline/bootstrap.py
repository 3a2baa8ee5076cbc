"""The default models: an embedding model and a sentiment model from one base encoder."""

from collections.abc import Sequence

from service.offline.checkpoints import DEFAULT_BASE, load_checkpoint
from service.offline.corpus import Example, digest_of, load_sentiment_corpus
from service.offline.export import TrainingRecord, publish, publish_embedding
from service.offline.finetune import FinetuneConfig, finetune
from service.offline.progress import Progress
from service.store.repository import ModelRepository, PublishedModel


def make_embedding(
    repository: ModelRepository, name: str, progress: Progress, *, base: str = DEFAULT_BASE
) -> PublishedModel:
    """Export `base` as an embedding model and publish it as `name`."""
    return publish_embedding(repository, name, load_checkpoint(base), progress)


def make_classifier(
    repository: ModelRepository,
    name: str,
    progress: Progress,
    *,
    examples: Sequence[Example] | None = None,
    base: str = DEFAULT_BASE,
    config: FinetuneConfig | None = None,
) -> PublishedModel:
    """Fine-tune `base` on `examples` (the project's sentiment corpus) and publish it as `name`."""
    config = config or FinetuneConfig()
    examples = load_sentiment_corpus() if examples is None else examples
    checkpoint = load_checkpoint(base)
    tuned = finetune(checkpoint, examples, config, progress, name)
    training = TrainingRecord(tuned.labels, tuned.metrics, digest_of(examples), config.seed)
    return publish(repository, name, tuned.model, checkpoint, progress, training)
