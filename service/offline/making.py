"""From data to a published model: clean, split, train, calibrate, prove, measure, publish."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.errors import DatasetInvalid
from service.offline.checkpoints import DEFAULT_BASE, load_checkpoint
from service.offline.cleaning import clean
from service.offline.corpus import load_sentiment_corpus
from service.offline.data import Example, ScoredPair, digest_of
from service.offline.embedding_training import EmbeddingConfig, train_embedding
from service.offline.evaluation.calibration import calibrate
from service.offline.evaluation.evaluate import evaluate, evaluate_embedding
from service.offline.evaluation.report import write_report
from service.offline.evaluation.targets import targets_of
from service.offline.export import TrainingRecord, publish
from service.offline.finetune import FinetuneConfig, Finetuned, finetune
from service.offline.gate import (
    Encode,
    Verdict,
    compare_labels,
    compare_on_examples,
    compare_on_pairs,
)
from service.offline.holding import Holding as Holding
from service.offline.holding import hold_out
from service.offline.predict import Predictor
from service.offline.progress import Progress
from service.offline.training.processes import end_processes, is_main_process
from service.offline.training.state import clear_state
from service.offline.variants import Judge
from service.store.manifest import Calibration, ManifestFields
from service.store.repository import ModelRepository, PublishedModel, check_name

STATE_FOLDER = ".training"


def make_classifier(
    repository: ModelRepository,
    name: str,
    progress: Progress,
    *,
    examples: Sequence[Example] | None = None,
    base: str = DEFAULT_BASE,
    config: FinetuneConfig | None = None,
    holding: Holding | None = None,
    save_every_s: float = 60.0,
) -> PublishedModel | None:
    """Fine-tune `base` on `examples` (the project's sentiment corpus) and publish it as `name`.

    Returns None in all but the first of several processes.

    Raises:
        InvalidField: `name` cannot be a model's name.
        DatasetInvalid: there is nothing to learn from the examples.
        ParityFailed: the ONNX file computes something else; the store is as it was.
    """
    check_name(name)
    config, holding = config or FinetuneConfig(), holding or Holding()
    examples = load_sentiment_corpus() if examples is None else examples
    main = is_main_process()
    if holding.fairness and any(example.pair is not None for example in examples):
        raise DatasetInvalid(
            "fairness is measured of models that read single texts: leave --fairness out"
        )
    cleaned = clean(examples, config.problem_type)

    def say(line: str) -> None:
        if main:
            progress.say(f"{name}: {line}")

    for line in cleaned.describe():
        say(line)
    parts = hold_out(cleaned.examples, holding, config.problem_type, config.seed, say)
    train, dev, test, labels = parts.train, parts.dev, parts.test, parts.labels
    checkpoint = load_checkpoint(base)
    tuned = finetune(
        checkpoint,
        train,
        dev,
        labels,
        config,
        progress if main else Progress.silent(),
        name,
        unseen=test,
        state_folder=repository.root / STATE_FOLDER / name,
        save_every_s=save_every_s,
    )
    end_processes()
    if not main:
        return None
    calibration = _calibrate(tuned, [*dev, *test], config, holding)
    if calibration:
        tuned.model.set_temperature(calibration.temperature)
        progress.say(
            f"{name}: temperature {calibration.temperature:.2f}, expected calibration error "
            f"{calibration.ece_before:.3f} before, {calibration.ece_after:.3f} after"
        )

    def judge(fp32: Encode, int8: Encode) -> Verdict:
        if holding.test and config.problem_type == "single_label":
            return compare_on_examples(fp32, int8, test, labels)
        held_out = [example.input for example in (*dev, *test)]
        return compare_labels(fp32, int8, held_out, config.problem_type)

    def report(folder: Path, fields: ManifestFields) -> None:
        facts = _training_facts(config, tuned, train, dev, test, cleaned.dropped)
        predictors = {key: Predictor(folder.parent, fields, key) for key in fields.variants}
        evaluation = evaluate(predictors, fields, test, fairness=holding.fairness)
        write_report(folder, fields, name, evaluation, facts)

    training = TrainingRecord(
        labels=labels,
        metrics=tuned.metrics,
        data_sha256=digest_of(examples),
        seed=config.seed,
        problem_type=config.problem_type,
        calibration=calibration,
        pair_separator_id=tuned.separator_id,
    )
    inputs = [example.input for example in cleaned.examples]
    published = publish(
        repository, name, tuned.model, checkpoint, progress, inputs, judge, training, report
    )
    clear_state(repository.root / STATE_FOLDER / name)
    return published


def make_trained_embedding(
    repository: ModelRepository,
    name: str,
    progress: Progress,
    *,
    train: Sequence[ScoredPair],
    dev: Sequence[ScoredPair],
    base: str = DEFAULT_BASE,
    config: EmbeddingConfig | None = None,
    save_every_s: float = 60.0,
) -> PublishedModel | None:
    """Train the vectors of `base` on pairs and publish them as `name`; the dev pairs judge int8.

    Returns None in all but the first of several processes.
    """
    check_name(name)
    config = config or EmbeddingConfig()
    main = is_main_process()
    checkpoint = load_checkpoint(base)
    trained = train_embedding(
        checkpoint,
        train,
        dev,
        config,
        progress if main else Progress.silent(),
        name,
        state_folder=repository.root / STATE_FOLDER / name,
        save_every_s=save_every_s,
    )
    end_processes()
    if not main:
        return None
    training = TrainingRecord(
        labels=(),
        metrics=trained.metrics,
        data_sha256=digest_of([Example(pair.first, pair.score, pair.second) for pair in train]),
        seed=config.seed,
        matryoshka_dimensions=config.matryoshka_dimensions,
    )

    def report(folder: Path, fields: ManifestFields) -> None:
        predictors = {key: Predictor(folder.parent, fields, key) for key in fields.variants}
        facts = {"settings": asdict(config), "history": trained.history, **trained.metrics}
        write_report(folder, fields, name, evaluate_embedding(predictors, fields, dev), facts)

    sentences = [text for pair in train for text in (pair.first, pair.second)]
    scored = config.objective != "contrastive"
    judge = _pairs_judge(dev) if scored else None
    published = publish(
        repository, name, trained.model, checkpoint, progress, sentences, judge, training, report
    )
    clear_state(repository.root / STATE_FOLDER / name)
    return published


def _pairs_judge(pairs: Sequence[ScoredPair]) -> Judge:
    return lambda fp32, int8: compare_on_pairs(fp32, int8, pairs)


def _calibrate(
    tuned: Finetuned, held_out: Sequence[Example], config: FinetuneConfig, holding: Holding
) -> Calibration | None:
    if config.problem_type == "regression":
        return None
    return calibrate(
        tuned.held_out_logits,
        targets_of(held_out, tuned.labels, config.problem_type),
        tuned.labels,
        config.problem_type,
        holding.wanted_precision,
    )


def _training_facts(
    config: FinetuneConfig,
    tuned: Finetuned,
    train: Sequence[Example],
    dev: Sequence[Example],
    test: Sequence[Example],
    dropped: Mapping[str, int],
) -> dict[str, Any]:
    """What the report says of the training."""
    return {
        "settings": asdict(config),
        "texts": {"train": len(train), "dev": len(dev), "test": len(test)},
        "dropped": dict(dropped),
        "history": list(tuned.history),
    }
