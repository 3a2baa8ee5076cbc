"""Half precision where a GPU has it, and nothing of it left in what is measured and published."""

import io
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console

from service.offline import pretrain as pretraining
from service.offline.checkpoints import load_checkpoint
from service.offline.data import ScoredPair
from service.offline.embedding_training import EmbeddingConfig, train_embedding
from service.offline.encoder import EncoderConfig
from service.offline.finetune import finetune
from service.offline.heads import ClassificationModel
from service.offline.masked_model import PretrainingModel
from service.offline.pretrain import PretrainConfig, pretrain
from service.offline.progress import Progress
from service.offline.training import processes
from service.offline.training.batches import packed_tensors
from service.offline.wordpiece import encode_in_portions
from service.runtime.tokenizer import Tokenizer
from tests.conftest import tiny_checkpoint
from tests.offline.pretraining_told import told as told_by
from tests.offline.test_finetune import FAST, MOODS

SENTENCES = [[2, 5 + a, 9 + b, 3] for a in range(4) for b in range(4)] * 8
SIZE = EncoderConfig(
    30, hidden_size=16, layers=2, heads=2, feed_forward_size=16, max_positions=16, dropout=0.0
)


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a GPU does, done by a CPU: bf16 in the forward pass."""

    def start() -> Accelerator:
        return Accelerator(cpu=True, mixed_precision="bf16")

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(processes, "start_accelerator", start)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def told() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(told: io.StringIO) -> Progress:
    return Progress(Console(file=told, width=200))


@pytest.mark.usefixtures("half")
def test_classifier_of_bf16_is_measured_and_answers_in_float32(
    tmp_path: Path, progress: Progress, told: io.StringIO
) -> None:
    checkpoint = tiny_checkpoint(tmp_path)
    dev = MOODS[::5]
    train = [example for index, example in enumerate(MOODS) if index % 5]
    tuned = finetune(checkpoint, train, dev, ("bad", "good"), FAST, progress, "moods")
    assert "moods: learns on the CPU in bf16\n" in told.getvalue()
    assert tuned.metrics["dev_accuracy"] == 1
    tokenizer = Tokenizer(checkpoint.tokenizer_file, checkpoint.max_tokens)
    ids = [entry.token_ids for entry in tokenizer.encode([example.text for example in dev])]
    batch = packed_tensors(ids)
    with torch.inference_mode():
        full = ClassificationModel.forward(tuned.model, *batch)
        assert torch.equal(tuned.model(*batch), full)
    # Rounded to bf16 they would differ by some hundredths.
    torch.testing.assert_close(torch.from_numpy(tuned.held_out_logits), full, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("half")
def test_vectors_learned_in_bf16_are_given_in_float32(
    tmp_path: Path, progress: Progress, told: io.StringIO
) -> None:
    texts = [example.text for example in MOODS]
    pairs = [ScoredPair(text, text, index % 3) for index, text in enumerate(texts)]
    config = EmbeddingConfig(epochs=1, batch_size=8)
    trained = train_embedding(
        tiny_checkpoint(tmp_path), pairs[8:], pairs[:8], config, progress, "vectors"
    )
    assert "vectors: learns on the CPU in bf16\n" in told.getvalue()
    batch = packed_tensors([[2, 5, 3]])
    with torch.inference_mode():
        full = type(trained.model).forward(trained.model, *batch)
        assert torch.equal(trained.model(*batch), full)


@pytest.mark.usefixtures("half")
@pytest.mark.parametrize("objective", ["mlm", "autoencoder"])
def test_encoder_learns_from_texts_in_bf16(
    progress: Progress, told: io.StringIO, objective: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is measured in float32: what accelerate puts before a model's forward is gone by then."""
    measured: list[torch.nn.Module] = []

    def noting(model: PretrainingModel, *rest: Any) -> dict[str, float]:
        measured.append(model)
        assert model.forward.__func__ is PretrainingModel.forward  # type: ignore[attr-defined]
        return measure(model, *rest)

    measure = pretraining._measure
    monkeypatch.setattr(pretraining, "_measure", noting)
    config = PretrainConfig(objective, epochs=2, batch_tokens=64)
    trained = pretrain(SENTENCES, SIZE, config, progress, "mine", mask_id=4, special_ids=range(5))
    assert "mine: learns on the CPU in bf16\n" in told.getvalue()
    assert len(measured) == 1
    assert 0 < trained.metrics["dev_loss"] < 20


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp16")])
def test_gpu_that_has_no_bf16_of_its_own_learns_in_fp16(
    monkeypatch: pytest.MonkeyPatch, native: bool, precision: str
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(processes, "Accelerator", lambda **options: asked.update(options))
    processes.start_accelerator()
    assert asked == {"mixed_precision": precision}


def words_of_equally_frequent_pieces() -> list[str]:
    """Of such words each learning of a tokenizer keeps other pieces."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnop", k=6)) for _ in range(300)]
    return [f"{word} {words[index - 1]}" for index, word in enumerate(words)]


def test_two_processes_pretrain_with_the_tokenizer_that_one_learned(tmp_path: Path) -> None:
    texts = words_of_equally_frequent_pieces()
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    result = subprocess.run(
        [
            *[sys.executable, "-m", "torch.distributed.run", "--standalone"],
            *["--nproc_per_node", "2", "--module", "tests.offline.pretraining_told", str(tmp_path)],
            *["pretrain", "new", "--data", str(tmp_path / "texts.txt")],
            *["--output", str(tmp_path / "out"), "--vocabulary-size", "150"],
            *["--hidden-size", "16", "--layers", "1", "--heads", "2", "--max-tokens", "16"],
            *["--epochs", "1", "--batch-tokens", "512"],
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    checkpoint = load_checkpoint(str(tmp_path / "out" / "new"))
    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint.tokenizer_file))
    ids = [list(portion) for portion in encode_in_portions(tokenizer, texts, 16)]
    assert told_by(tmp_path, 0) == told_by(tmp_path, 1) == ids
    assert checkpoint.encoder.config.vocabulary_size == tokenizer.get_vocab_size()
    assert all(bool(weights.isfinite().all()) for weights in checkpoint.encoder.parameters())
    assert list((tmp_path / "out" / ".training").iterdir()) == []
