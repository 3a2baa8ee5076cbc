"""The ONNX files of one model: fp32, proven equal to PyTorch, and int8 where it has earned it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from service.offline.gate import Encode, Verdict, encode_with
from service.offline.heads import TaskModel
from service.offline.progress import Progress
from service.offline.quantize import quantize
from service.runtime.session import PackedEncoder, open_session
from service.runtime.speed import tokens_per_s
from service.runtime.tokenizer import Tokenizer
from service.store.manifest import Variant

INT8_FILE = "model.int8.onnx"
SPEED_S = 0.5
SPEED_ROUNDS = 3
SPEED_BATCH_TOKENS = 128

Judge = Callable[[Encode, Encode], Verdict]


def with_int8(
    fp32: Variant,
    folder: Path,
    model: TaskModel,
    tokenizer: Tokenizer,
    calibration: Sequence[str],
    judge: Judge,
    progress: Progress,
    name: str,
) -> dict[str, Variant]:
    """The variants to publish: fp32 and, if `judge` admits it and it is faster, int8.

    Args:
        folder: holds the fp32 file; the int8 file is written beside it, or removed again.
        calibration: texts like those to be served.
    """
    target = folder / INT8_FILE
    texts = [text.token_ids for text in tokenizer.encode(calibration)]
    with progress.phase(f"{name}: int8", 3) as phase:
        quantize(folder / fp32.file, target, texts)
        phase.advance("quantised")
        encoders = {
            file: PackedEncoder(open_session(folder / file), model.output_name, model.width)
            for file in (fp32.file, INT8_FILE)
        }
        verdict = judge(*(encode_with(encoder, tokenizer) for encoder in encoders.values()))
        phase.advance("compared")
        speeds = _speeds(encoders, texts)
        phase.advance("timed")
    fp32 = fp32.model_copy(update={"tokens_per_s": speeds[fp32.file]})
    ratio = speeds[INT8_FILE] / speeds[fp32.file]
    measured = ", ".join(f"{key} {value:.4f}" for key, value in verdict.quality.items())
    progress.say(f"{name}: int8 is {ratio:.2f} times as fast as fp32; {measured}")
    if not verdict.admitted or ratio <= 1:
        reason = "; ".join(verdict.missed) or "it is not faster"
        progress.say(f"{name}: int8 is not published: {reason}")
        target.unlink()
        return {"fp32": fp32}
    int8 = Variant(file=INT8_FILE, quality=verdict.quality, tokens_per_s=speeds[INT8_FILE])
    return {"fp32": fp32, "int8": int8}


def fastest(variants: dict[str, Variant]) -> str:
    return max(variants, key=lambda name: variants[name].tokens_per_s or 0)


def _speeds(encoders: dict[str, PackedEncoder], texts: Sequence[Sequence[int]]) -> dict[str, float]:
    """Tokens a second on one core, the best of interleaved rounds: others' work only slows."""
    best = dict.fromkeys(encoders, 0.0)
    for _ in range(SPEED_ROUNDS):
        for file, encoder in encoders.items():
            rate = tokens_per_s(
                encoder, texts, max_batch_tokens=SPEED_BATCH_TOKENS, seconds=SPEED_S
            )
            best[file] = max(best[file], rate)
    return best
