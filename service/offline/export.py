"""PyTorch module to published ONNX model: export, prove equal, publish, or publish nothing."""

import random
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from service.offline.checkpoints import Checkpoint
from service.offline.corpus import join_to_mixed_lengths
from service.offline.data import Input
from service.offline.gate import compare_embeddings, compare_labels
from service.offline.heads import (
    TOKEN_OUTPUT,
    EmbeddingGraph,
    EmbeddingModel,
    TaskModel,
    graph_of,
    output_names,
)
from service.offline.onnx_graph import give_default
from service.offline.parity import check_parity
from service.offline.predict import golden_texts
from service.offline.progress import Progress
from service.offline.provenance import provenance_of
from service.offline.reference import write_reference
from service.offline.training.batches import packed_tensors
from service.offline.variants import Judge, with_int8
from service.runtime.outputs import ProblemType
from service.runtime.packing import LEADING_INPUT, PACKED_INPUTS, PACKED_PAIR_INPUTS
from service.store.golden import GOLDEN_FILE, write_golden
from service.store.manifest import TOKENIZER_FILE, Calibration, ManifestFields, Variant
from service.store.repository import ModelRepository, PublishedModel

MODEL_FILE = "model.onnx"
REPORT_FOLDER = "report"
OPSET = 18
SAMPLE_TEXTS = 256

# Writes the files of its report into the folder, which it makes.
Report = Callable[[Path, ManifestFields], None]


@dataclass(frozen=True)
class TrainingRecord:
    """What a manifest says beyond graph and checkpoint: what is answered, and what was learned.

    labels: in the order of the logits; empty for embeddings.
    data_sha256, seed: None where a head is taken as its checkpoint brings it.
    pair_separator_id: ends the first text of a pair; None for a model of single texts.
    """

    labels: tuple[str, ...]
    metrics: dict[str, float]
    data_sha256: str | None
    seed: int | None
    problem_type: ProblemType = "single_label"
    calibration: Calibration | None = None
    matryoshka_dimensions: tuple[int, ...] = ()
    pair_separator_id: int | None = None


_UNTRAINED = TrainingRecord(labels=(), metrics={}, data_sha256=None, seed=None)


def publish_embedding(
    repository: ModelRepository,
    name: str,
    checkpoint: Checkpoint,
    progress: Progress,
    sentences: Sequence[Input],
    judge: Judge | None = None,
) -> PublishedModel:
    """Publish the checkpoint's encoder as an embedding model, pooled as its authors do."""
    model = EmbeddingModel(
        checkpoint.encoder,
        checkpoint.pooling,
        normalize=checkpoint.normalize,
        projection=checkpoint.projection,
    ).eval()
    return publish(repository, name, model, checkpoint, progress, sentences, judge)


def publish(
    repository: ModelRepository,
    name: str,
    model: TaskModel,
    checkpoint: Checkpoint,
    progress: Progress,
    sentences: Sequence[Input],
    judge: Judge | None = None,
    training: TrainingRecord | None = None,
    report: Report | None = None,
) -> PublishedModel:
    """Export `model`, check it against PyTorch and publish it as the current version of `name`.

    Args:
        sentences: like those to be served, at least two; pairs for a model that reads pairs. A
            random half sets the scales of the int8 variant, the others are what it is compared with
            fp32 on.
        judge: compares int8 with fp32 on something better, such as labelled texts.
        report: called when the variants are made; what it writes is published with the model.

    Raises:
        ParityFailed: the ONNX file computes something else; the store is as it was.
    """
    record = training or _UNTRAINED
    segments_by = _segments_by(model, record)
    mixed = random.Random(0).sample(sentences, len(sentences))
    held_out = _sample(mixed[1::2])
    with repository.draft(name) as draft:
        with progress.phase(f"{name}: export", 1) as phase:
            export_onnx(model, draft.path / MODEL_FILE, segments=segments_by is not None)
            shutil.copyfile(checkpoint.tokenizer_file, draft.path / TOKENIZER_FILE)
            phase.advance()
        parity = check_parity(
            model, draft.path / MODEL_FILE, progress, name, separator_id=segments_by
        )
        fields = with_int8(
            _fields(model, checkpoint, record, parity.max_abs_diff),
            draft.path,
            _sample(mixed[::2]),
            held_out,
            judge or _judge(model, record, held_out),
            progress,
            name,
        )
        with progress.phase(f"{name}: golden texts", 1) as phase:
            write_golden(draft.path / GOLDEN_FILE, golden_texts(draft.path, fields))
            write_reference(draft.path, fields, mixed)
            phase.advance()
        if report:
            report(draft.path / REPORT_FOLDER, fields)
        published = draft.publish(fields)
    progress.say(f"{name}: published version {published.manifest.version} to {published.path}")
    return published


def export_onnx(model: TaskModel, path: Path, *, segments: bool = False) -> None:
    """Write `model` in the packed layout: any number of texts, tokens and lengths.

    The traced sample holds two texts of different length, so that no size is taken for a
    constant. Why the TorchScript exporter: docs/decisions/0001-torchscript-exporter.md.

    Args:
        segments: the graph asks for `token_type_ids`, too.
    """
    sample: tuple[Any, ...] = packed_tensors([[1, 2, 3], [4, 5, 2, 7, 8]], 2 if segments else None)
    inputs = PACKED_PAIR_INPUTS if segments else PACKED_INPUTS
    axes = {name: {0: "tokens"} for name in inputs}
    axes["pad_index"] = {0: "texts", 1: "longest"}
    graph = graph_of(model)
    outputs = output_names(graph)
    axes |= {name: {0: "tokens" if name == TOKEN_OUTPUT else "texts"} for name in outputs}
    spares = isinstance(graph, EmbeddingGraph) and graph.spares_tokens
    if spares:
        sample = (*sample, {LEADING_INPUT: torch.tensor(2)})
        inputs = (*inputs, LEADING_INPUT)
        axes[TOKEN_OUTPUT] = {0: "texts", 1: "leading"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            graph,
            sample,
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    if spares:
        give_default(path, LEADING_INPUT, 1)


def _segments_by(model: TaskModel, record: TrainingRecord) -> int | None:
    """The separator, for a model that is told the segments of pairs.

    Families without segments tell the texts of a pair apart by the separators alone.
    """
    return record.pair_separator_id if model.encoder.config.segments > 1 else None


def _sample(inputs: Sequence[Input]) -> list[Input]:
    """Texts in lengths as people send them; pairs as they are."""
    texts = [entry for entry in inputs if isinstance(entry, str)]
    if texts:
        return list(join_to_mixed_lengths(texts, SAMPLE_TEXTS))
    return random.Random(0).choices(inputs, k=SAMPLE_TEXTS)


def _judge(model: TaskModel, record: TrainingRecord, inputs: Sequence[Input]) -> Judge:
    """Compare the variants with each other, which needs no file."""
    if isinstance(model, EmbeddingModel):
        return lambda fp32, int8: compare_embeddings(fp32, int8, inputs)
    return lambda fp32, int8: compare_labels(fp32, int8, inputs, record.problem_type)


def _fields(
    model: TaskModel, checkpoint: Checkpoint, record: TrainingRecord, max_abs_diff: float
) -> ManifestFields:
    embeds = isinstance(model, EmbeddingModel)
    return ManifestFields(
        task="embedding" if embeds else "classification",
        inputs=PACKED_INPUTS if _segments_by(model, record) is None else PACKED_PAIR_INPUTS,
        output=model.output_name,
        width=model.width,
        labels=record.labels,
        problem_type=record.problem_type,
        pair_separator_id=record.pair_separator_id,
        prompts=checkpoint.prompts if embeds else {},
        default_prompt=checkpoint.default_prompt if embeds else None,
        matryoshka_dimensions=record.matryoshka_dimensions,
        calibration=record.calibration,
        pooling=model.pooling,
        normalized=isinstance(model, EmbeddingModel) and model.normalize,
        scaled_in_graph=False,
        token_output=TOKEN_OUTPUT if TOKEN_OUTPUT in output_names(graph_of(model)) else None,
        max_tokens=checkpoint.max_tokens,
        variants={"fp32": Variant(file=MODEL_FILE, parity_max_abs_diff=max_abs_diff)},
        default_variant="fp32",
        metrics=record.metrics,
        provenance=provenance_of(
            checkpoint.name,
            checkpoint.sha256,
            data_sha256=record.data_sha256,
            seed=record.seed,
        ),
    )
