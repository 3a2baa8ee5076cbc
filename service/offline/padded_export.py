"""Encoders of other families to published ONNX models of the padded layout, proven equal."""

import shutil
import warnings
from pathlib import Path

import torch
from torch import Tensor

from service.errors import CheckpointInvalid
from service.offline.export import MODEL_FILE, OPSET
from service.offline.heads import TOKEN_OUTPUT
from service.offline.padded_models import PaddedCheckpoint, PaddedModel
from service.offline.parity import ParityReport, Run, all_tokens, grid, prove_equal
from service.offline.predict import golden_texts
from service.offline.progress import Progress
from service.offline.provenance import provenance_of
from service.runtime.cpus import available_cpus
from service.runtime.padding import pad
from service.runtime.session import PaddedEncoder, TokenEncoder, open_session
from service.store.golden import GOLDEN_FILE, write_golden
from service.store.manifest import TOKENIZER_FILE, ManifestFields, Variant
from service.store.repository import ModelRepository, PublishedModel


def publish_padded(
    repository: ModelRepository, name: str, checkpoint: PaddedCheckpoint, progress: Progress
) -> PublishedModel:
    """Export the checkpoint's model, check it against PyTorch and publish it; fp32 only.

    Raises:
        CheckpointInvalid: the exporter lacks an operation of it.
        ParityFailed: the ONNX file computes something else; the store is as it was.
    """
    model = checkpoint.model
    separator_id = checkpoint.separator_id
    with repository.draft(name) as draft:
        with progress.phase(f"{name}: export", 1) as phase:
            export_padded(model, draft.path / MODEL_FILE)
            shutil.copyfile(checkpoint.tokenizer_file, draft.path / TOKENIZER_FILE)
            phase.advance()
        file = draft.path / MODEL_FILE
        parity = check_padded_parity(checkpoint, file, progress, name, separator_id)
        fields = _fields(checkpoint, parity.max_abs_diff)
        write_golden(draft.path / GOLDEN_FILE, golden_texts(draft.path, fields))
        published = draft.publish(fields)
    progress.say(f"{name}: no int8 variant: it is made of models of the packed layout only")
    progress.say(f"{name}: published version {published.manifest.version} to {published.path}")
    return published


def export_padded(model: PaddedModel, path: Path) -> None:
    """Write `model` in the padded layout: any number of texts, of any length.

    Raises:
        CheckpointInvalid: the exporter lacks an operation of the model.
    """
    axes = {name: {0: "texts", 1: "longest"} for name in (*model.inputs, TOKEN_OUTPUT)}
    axes[model.output_name] = {0: "texts"}
    with warnings.catch_warnings():
        # What tracing may get wrong, and says so of, the parity grid finds.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                model,
                _tensors(model, [[1, 2, 3], [4, 5, 6, 7, 8]], None),
                str(path),
                input_names=list(model.inputs),
                output_names=list(model.outputs),
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError) as error:
            kind = model.transformer.config.model_type
            raise CheckpointInvalid(
                f"a model of type {kind!r} cannot be written as ONNX: {type(error).__name__}; if "
                "its authors publish an ONNX file, use `encserve import`"
            ) from error


def check_padded_parity(
    checkpoint: PaddedCheckpoint,
    onnx_file: Path,
    progress: Progress,
    name: str,
    separator_id: int | None = None,
) -> ParityReport:
    """Compare on the grid of `check_parity`, with batches filled up as the server fills them.

    Raises:
        ParityFailed: a number differs by more than `MAX_ABS_DIFF`.
    """
    model = checkpoint.model
    session = open_session(onnx_file, threads=available_cpus())
    encoder = PaddedEncoder(session, model.output_name, model.width, separator_id)
    cases = grid(checkpoint.max_tokens, model.vocabulary_size, separator_id)

    def outputs(text: list[int]) -> list[Tensor]:
        rows, *tokens = model(*_tensors(model, [text], separator_id))
        return [rows, *(block[0] for block in tokens)]

    runs: list[Run] = [lambda texts: [encoder(texts)]]
    if TOKEN_OUTPUT in model.outputs:
        runs.append(all_tokens(TokenEncoder(encoder, TOKEN_OUTPUT)))
    return prove_equal(runs, outputs, cases, progress, name)


def _tensors(
    model: PaddedModel, texts: list[list[int]], separator_id: int | None
) -> tuple[Tensor, ...]:
    arrays = pad(texts, separator_id)
    return tuple(torch.from_numpy(arrays[name]) for name in model.inputs)


def _fields(checkpoint: PaddedCheckpoint, max_abs_diff: float) -> ManifestFields:
    model = checkpoint.model
    return ManifestFields(
        **model.use.fields(),
        layout="padded",
        inputs=model.inputs,
        output=model.output_name,
        scaled_in_graph=False,
        token_output=TOKEN_OUTPUT if TOKEN_OUTPUT in model.outputs else None,
        width=model.width,
        pair_separator_id=checkpoint.separator_id,
        max_tokens=checkpoint.max_tokens,
        variants={"fp32": Variant(file=MODEL_FILE, parity_max_abs_diff=max_abs_diff)},
        default_variant="fp32",
        provenance=provenance_of(checkpoint.name, checkpoint.sha256),
    )
