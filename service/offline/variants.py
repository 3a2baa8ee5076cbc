"""The ONNX files of one model: fp32, proven equal to PyTorch, and int8 where it has earned it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from service.offline.data import Input
from service.offline.evaluation.variants import one_core_tokens_per_s
from service.offline.gate import Encode, Verdict, compare_tokens
from service.offline.predict import Predictor
from service.offline.progress import Progress
from service.offline.quantize import quantize
from service.runtime.cpus import available_cpus
from service.runtime.session import Encoder
from service.store.manifest import ManifestFields, Variant

INT8_FILE = "model.int8.onnx"
SPEED_ROUNDS = 3
TOKEN_TEXTS = 64

Judge = Callable[[Encode, Encode], Verdict]


def with_int8(
    fields: ManifestFields,
    folder: Path,
    calibration: Sequence[Input],
    held_out: Sequence[Input],
    judge: Judge,
    progress: Progress,
    name: str,
) -> ManifestFields:
    """The fields of a model that has fp32 only, with int8 where `judge` admits it and it is faster.

    Args:
        folder: holds the fp32 file; the int8 file is written beside it, or removed again.
        calibration: texts or pairs like those to be served.
        held_out: others; on the first of them vectors of tokens are compared, if the model has any.
            Where these miss their bar, int8 is published all the same, and answers none.
    """
    int8 = Variant(file=INT8_FILE)
    both = fields.model_copy(update={"variants": {**fields.variants, "int8": int8}})
    fp32_file = fields.variants["fp32"].file
    with progress.phase(f"{name}: int8", 3) as phase:
        cores = available_cpus()
        predictors = {"fp32": Predictor(folder, fields, "fp32", threads=cores)}
        texts = [entry.token_ids for entry in predictors["fp32"].tokenize(calibration)]
        segments_by = fields.pair_separator_id if "token_type_ids" in fields.inputs else None
        quantize(folder / fp32_file, folder / INT8_FILE, texts, segments_by)
        phase.advance("quantised")
        predictors["int8"] = Predictor(folder, both, "int8", threads=cores)
        verdict = judge(predictors["fp32"].rows, predictors["int8"].rows)
        tokens = _judge_tokens(fields, predictors, held_out[:TOKEN_TEXTS])
        phase.advance("compared")
        # Speed is told of one core; the sessions of all cores hold the weights, and go first.
        del predictors
        encoders = {
            one.file: Predictor(folder, both, key).encoder for key, one in both.variants.items()
        }
        speeds = _speeds(encoders, texts)
        phase.advance("timed")
    timed = {
        key: variant.model_copy(update={"tokens_per_s": speeds[variant.file]})
        for key, variant in both.variants.items()
    }
    quality = verdict.quality | tokens.quality
    timed["int8"] = timed["int8"].model_copy(
        update={"quality": quality, "answers_tokens": tokens.admitted}
    )
    ratio = speeds[INT8_FILE] / speeds[fp32_file]
    measured = ", ".join(f"{key} {value:.4f}" for key, value in quality.items())
    progress.say(f"{name}: int8 is {ratio:.2f} times as fast as fp32; {measured}")
    if not verdict.admitted or ratio <= 1:
        reason = "; ".join(verdict.missed) or "it is not faster"
        progress.say(f"{name}: int8 is not published: {reason}")
        (folder / INT8_FILE).unlink()
        return fields.model_copy(update={"variants": {"fp32": timed["fp32"]}})
    if not tokens.admitted:
        reason = "; ".join(tokens.missed)
        progress.say(f"{name}: int8 answers no vectors of tokens, fp32 does: {reason}")
    return both.model_copy(update={"variants": timed, "default_variant": "int8"})


def _judge_tokens(
    fields: ManifestFields, predictors: Mapping[str, Predictor], texts: Sequence[Input]
) -> Verdict:
    if fields.token_output is None:
        return Verdict({}, ())
    return compare_tokens(predictors["fp32"].token_rows, predictors["int8"].token_rows, texts)


def _speeds(encoders: Mapping[str, Encoder], texts: Sequence[Sequence[int]]) -> dict[str, float]:
    """Tokens a second on one core, the best of interleaved rounds: others' work only slows."""
    best = dict.fromkeys(encoders, 0.0)
    for _ in range(SPEED_ROUNDS):
        for file, encoder in encoders.items():
            best[file] = max(best[file], one_core_tokens_per_s(encoder, texts))
    return best
