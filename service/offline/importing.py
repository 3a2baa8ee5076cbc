"""Ready-made ONNX folders to published models of the padded layout, tried out before they are."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from service.errors import CheckpointInvalid, EncserveError
from service.offline.heads import TOKEN_OUTPUT
from service.offline.label_files import ClassifierUse
from service.offline.onnx_graph import GraphEnd
from service.offline.parity import Run, all_tokens, random_ids
from service.offline.predict import golden_texts
from service.offline.progress import Progress
from service.offline.provenance import provenance_of
from service.offline.ready_made import MODEL_FILE, ReadyMade, read_ready_made
from service.offline.sentence_files import EmbeddingUse
from service.runtime.padding import pad
from service.runtime.session import PaddedEncoder, TokenEncoder, open_session
from service.store.files import sha256_of
from service.store.golden import GOLDEN_FILE, write_golden
from service.store.manifest import TOKENIZER_FILE, ManifestFields, Variant
from service.store.repository import ModelRepository, PublishedModel, check_name

FloatArray = npt.NDArray[np.float32]

# A text's answer alone and in company: sums in another order, and nothing more.
MAX_ABS_DIFF = 1e-4
# Lengths that are tried together, of texts short enough to be quick.
_TRIED_TOKENS = (1, 2, 17, 64, 5)
_UNIT = 1e-3


def import_folder(
    repository: ModelRepository,
    name: str,
    folder: Path,
    progress: Progress,
    *,
    file: str | None = None,
    pairs: bool | None = None,
    max_tokens: int | None = None,
) -> PublishedModel:
    """Publish the ONNX file of `folder` as `name`, pooled and scaled as its other files say.

    Args:
        file: the ONNX file inside the folder; None: model.onnx or onnx/model.onnx.
        pairs: whether a classifier reads pairs; None: as its files let one guess.
        max_tokens: cut longer texts; None: as the authors do.

    Raises:
        InvalidField: `name` cannot be a model's name.
        CheckpointInvalid: a file is missing, a link or not as it should be; the graph has other
            inputs or outputs; or a text's answer depends on the texts beside it.
        ModelCorrupt: onnxruntime cannot load the file.
    """
    check_name(name)
    ready = read_ready_made(folder, file, pairs, max_tokens)
    with repository.draft(name) as draft:
        with progress.phase(f"{name}: import", 2) as phase:
            stated = _finish(ready, _answers(ready))
            onnx.save(ready.model, draft.path / MODEL_FILE)
            shutil.copyfile(ready.tokenizer_file, draft.path / TOKENIZER_FILE)
            phase.advance()
            worst = _try_out(draft.path / MODEL_FILE, ready, stated)
            phase.advance(f"largest difference in company {worst:.1e}")
        fields = ManifestFields(
            **stated,
            layout="padded",
            inputs=ready.inputs,
            pair_separator_id=ready.separator_id,
            max_tokens=ready.max_tokens,
            variants={"fp32": Variant(file=MODEL_FILE)},
            default_variant="fp32",
            provenance=provenance_of(ready.name, sha256_of(ready.model_file)),
        )
        write_golden(draft.path / GOLDEN_FILE, golden_texts(draft.path, fields))
        published = draft.publish(fields)
    progress.say(f"{name}: published version {published.manifest.version} to {published.path}")
    return published


def _answers(ready: ReadyMade) -> dict[str, FloatArray]:
    """What the graph as it is answers to two texts, by output, for shapes and sizes."""
    session = open_session(ready.model_file)
    arrays = pad(_texts(ready, (2, 9)), ready.separator_id)
    names = [ready.output, *([ready.token_output] if ready.token_output else [])]
    try:
        answers = session.run(names, {name: arrays[name] for name in ready.inputs})
    except Exception as error:  # onnxruntime's own classes share no public base
        raise _failure(9, error) from error
    return dict(zip(names, answers, strict=True))


def _finish(ready: ReadyMade, by_output: dict[str, FloatArray]) -> dict[str, Any]:
    """Complete the graph to one row a text; returns what a manifest says of it."""
    end = GraphEnd(ready.model, ready.output)
    answers = by_output[ready.output]
    if not isinstance(ready.use, ClassifierUse):
        tokens = _keep_tokens(end, ready, by_output)
        return _finish_embedding(end, ready.use, answers) | {"token_output": tokens}
    labels = len(ready.use.labels)
    if answers.shape[1:] != (labels,):
        raise CheckpointInvalid(
            f"the graph answers shape {answers.shape} to two texts, and config.json names {labels} "
            "labels: name each logit in id2label"
        )
    return ready.use.fields() | {"output": end.finish("logits", labels), "width": labels}


def _keep_tokens(end: GraphEnd, ready: ReadyMade, by_output: dict[str, FloatArray]) -> str | None:
    """The output of vectors of tokens: what is to be pooled, or what the graph has beside that."""
    for output in (ready.output, ready.token_output):
        if output is not None and by_output[output].ndim == 3:
            return end.keep(output, TOKEN_OUTPUT, by_output[output].shape[-1])
    return None


def _finish_embedding(end: GraphEnd, use: EmbeddingUse, answers: FloatArray) -> dict[str, Any]:
    if answers.ndim not in (2, 3):
        raise CheckpointInvalid(f"the graph answers shape {answers.shape}, which is no embedding")
    stated = use.fields() | {"width": answers.shape[-1]}
    if answers.ndim == 3:
        end.pool(use.pooling)
        if use.projection is not None:
            end.project(use.projection)
            stated["width"] = use.projection.width
    else:
        # Its makers have pooled it, and do not say how.
        stated["pooling"] = None
        is_unit = np.allclose(np.linalg.norm(answers, axis=1), 1, atol=_UNIT)
        stated["normalized"] = use.normalize or bool(is_unit)
    if use.normalize:
        end.normalize()
    return stated | {"output": end.finish("embedding", stated["width"])}


def _try_out(file: Path, ready: ReadyMade, fields: dict[str, Any]) -> float:
    """Each of some texts alone and among the others, and one of the longest.

    Raises:
        CheckpointInvalid: an answer differs, is not finite or of another shape, or there is none.
    """
    session = open_session(file)
    encoder = PaddedEncoder(session, fields["output"], fields["width"], ready.separator_id)
    runs: list[Run] = [lambda texts: [encoder(texts)]]
    if fields.get("token_output"):
        runs.append(all_tokens(TokenEncoder(encoder, fields["token_output"])))
    lengths = [min(length, ready.max_tokens) for length in _TRIED_TOKENS]
    texts = _texts(ready, lengths)
    try:
        worst = max(
            float(np.abs(rows - np.concatenate(alone)).max())
            for run in runs
            for rows, *alone in zip(run(texts), *(run([text]) for text in texts), strict=True)
        )
    except Exception as error:  # onnxruntime's own classes share no public base
        raise _failure(max(lengths), error) from error
    if not worst <= MAX_ABS_DIFF:
        raise CheckpointInvalid(
            f"a text's answer differs by {worst:.1e} in the company of others, allowed is "
            f"{MAX_ABS_DIFF:.0e}: import a file of float32 weights that heeds attention_mask"
        )
    try:
        encoder(_texts(ready, [ready.max_tokens]))
    except Exception as error:  # as above
        raise _failure(ready.max_tokens, error) from error
    return worst


def _failure(tokens: int, error: Exception) -> CheckpointInvalid:
    reason = error.message if isinstance(error, EncserveError) else type(error).__name__
    return CheckpointInvalid(
        f"the model fails on a text of {tokens} tokens ({reason}): if it reads only shorter ones, "
        "say so with --max-tokens"
    )


def _texts(ready: ReadyMade, lengths: Sequence[int]) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [
        random_ids(rng, length, ready.vocabulary_size, ready.separator_id) for length in lengths
    ]
