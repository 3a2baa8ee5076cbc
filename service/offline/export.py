"""PyTorch module to published ONNX model: export, prove equal, publish, or publish nothing."""

import importlib.metadata
import random
import shutil
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from service.offline.checkpoints import Checkpoint
from service.offline.corpus import join_to_mixed_lengths
from service.offline.finetune import packed_tensors
from service.offline.gate import compare_embeddings, compare_labels
from service.offline.heads import EmbeddingModel, TaskModel
from service.offline.parity import check_parity
from service.offline.progress import Progress
from service.offline.variants import Judge, fastest, with_int8
from service.runtime.packing import PACKED_INPUTS
from service.runtime.tokenizer import Tokenizer
from service.store.manifest import TOKENIZER_FILE, ManifestFields, Provenance, Variant
from service.store.repository import ModelRepository, PublishedModel

MODEL_FILE = "model.onnx"
OPSET = 18
SAMPLE_TEXTS = 256
_LIBRARIES = ("torch", "transformers", "onnxruntime", "tokenizers", "numpy")


@dataclass(frozen=True)
class TrainingRecord:
    """What fine-tuning adds to a model's manifest."""

    labels: tuple[str, ...]
    metrics: dict[str, float]
    data_sha256: str
    seed: int


def publish_embedding(
    repository: ModelRepository,
    name: str,
    checkpoint: Checkpoint,
    progress: Progress,
    sentences: Sequence[str],
    judge: Judge | None = None,
) -> PublishedModel:
    """Publish the checkpoint's encoder as an embedding model, pooled as its authors do."""
    model = EmbeddingModel(
        checkpoint.encoder, checkpoint.pooling, normalize=checkpoint.normalize
    ).eval()
    return publish(repository, name, model, checkpoint, progress, sentences, judge)


def publish(
    repository: ModelRepository,
    name: str,
    model: TaskModel,
    checkpoint: Checkpoint,
    progress: Progress,
    sentences: Sequence[str],
    judge: Judge | None = None,
    training: TrainingRecord | None = None,
) -> PublishedModel:
    """Export `model`, check it against PyTorch and publish it as the current version of `name`.

    Args:
        sentences: like those to be served, at least two: a random half sets the scales of the
            int8 variant, the others are what it is compared with fp32 on.
        judge: compares int8 with fp32 on something better, such as labelled texts.

    Raises:
        ParityFailed: the ONNX file computes something else; the store is as it was.
    """
    sentences = random.Random(0).sample(sentences, len(sentences))
    with repository.draft(name) as draft:
        with progress.phase(f"{name}: export", 1) as phase:
            export_onnx(model, draft.path / MODEL_FILE)
            shutil.copyfile(checkpoint.tokenizer_file, draft.path / TOKENIZER_FILE)
            phase.advance()
        parity = check_parity(model, draft.path / MODEL_FILE, progress, name)
        variants = with_int8(
            Variant(file=MODEL_FILE, parity_max_abs_diff=parity.max_abs_diff),
            draft.path,
            model,
            Tokenizer(checkpoint.tokenizer_file, checkpoint.max_tokens),
            join_to_mixed_lengths(sentences[::2], SAMPLE_TEXTS),
            judge or _judge(model, join_to_mixed_lengths(sentences[1::2], SAMPLE_TEXTS)),
            progress,
            name,
        )
        published = draft.publish(
            ManifestFields(
                task="embedding" if isinstance(model, EmbeddingModel) else "classification",
                inputs=PACKED_INPUTS,
                output=model.output_name,
                width=model.width,
                labels=training.labels if training else (),
                pooling=model.pooling,
                normalized=isinstance(model, EmbeddingModel) and model.normalize,
                max_tokens=checkpoint.max_tokens,
                variants=variants,
                default_variant=fastest(variants),
                metrics=training.metrics if training else {},
                provenance=_provenance(checkpoint, training),
            )
        )
    progress.say(f"{name}: published version {published.manifest.version} to {published.path}")
    return published


def export_onnx(model: TaskModel, path: Path) -> None:
    """Write `model` in the packed layout: any number of texts, tokens and lengths.

    The traced sample holds two texts of different length, so that no size is taken for a
    constant. Why the TorchScript exporter: docs/decisions/0001-torchscript-exporter.md.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            model,
            packed_tensors([[1, 2, 3], [4, 5, 6, 7, 8]]),
            str(path),
            input_names=list(PACKED_INPUTS),
            output_names=[model.output_name],
            dynamic_axes={
                "input_ids": {0: "tokens"},
                "position_ids": {0: "tokens"},
                "pad_index": {0: "texts", 1: "longest"},
                "unpad_index": {0: "tokens"},
                model.output_name: {0: "texts"},
            },
            opset_version=OPSET,
            dynamo=False,
        )


def _judge(model: TaskModel, texts: Sequence[str]) -> Judge:
    """Compare the variants with each other, which needs no file."""
    if isinstance(model, EmbeddingModel):
        return lambda fp32, int8: compare_embeddings(fp32, int8, texts)
    return lambda fp32, int8: compare_labels(fp32, int8, texts)


def _provenance(checkpoint: Checkpoint, training: TrainingRecord | None) -> Provenance:
    return Provenance(
        base=checkpoint.name,
        base_sha256=checkpoint.sha256,
        data_sha256=training.data_sha256 if training else None,
        git_commit=_git_commit(),
        libraries={library: importlib.metadata.version(library) for library in _LIBRARIES},
        seed=training.seed if training else None,
    )


def _git_commit() -> str | None:
    """The commit of the checkout this runs from, if it is one."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
