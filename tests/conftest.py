"""Fixtures shared by all tests: one tiny published model of each task, made with the real parts."""

from pathlib import Path

import pytest
import tokenizers
import torch
from rich.console import Console
from tokenizers import models, normalizers, pre_tokenizers, processors

from service.offline.checkpoints import Checkpoint
from service.offline.encoder import Encoder, EncoderConfig
from service.offline.export import TrainingRecord, publish, publish_embedding
from service.offline.gate import Encode, Verdict
from service.offline.heads import ClassificationModel
from service.offline.progress import Progress
from service.store.repository import ModelRepository

TINY_MAX_TOKENS = 32
SENTENCES = ("the food is good", "a bad train at nine", "the leaves", "not a good train leaves")
# Files that take minutes: begun first, they do not end long after all the others.
LONGEST_FIRST = (
    "integration/test_default_models.py",
    "book/test_pages.py",
    "unit/test_store_kills.py",
)
_WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["the", "a", "not", "good", "bad", "train", "leaves", "at", "nine", "food"],
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST_FIRST))


def tiny_tokenizer() -> tokenizers.Tokenizer:
    """Whole words, single letters and their continuations: any lower-case text has ids."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
    pieces = [*_WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return tokenizer


def tiny_checkpoint(folder: Path) -> Checkpoint:
    """A 2-layer random encoder of width 16."""
    tokenizer = tiny_tokenizer()
    tokenizer_file = folder / "tiny-tokenizer.json"
    tokenizer.save(str(tokenizer_file))
    config = EncoderConfig(
        vocabulary_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        layers=2,
        heads=2,
        feed_forward_size=32,
        max_positions=TINY_MAX_TOKENS,
    )
    torch.manual_seed(0)
    return Checkpoint(
        name="tiny",
        sha256="0" * 64,
        encoder=Encoder(config).eval(),
        tokenizer_file=tokenizer_file,
        pooling="mean",
        normalize=True,
        max_tokens=TINY_MAX_TOKENS,
    )


def only_fp32(fp32: Encode, int8: Encode) -> Verdict:
    """A judge that never admits int8: which of two tiny variants is faster is a matter of luck."""
    return Verdict({}, ("refused by the test",))


@pytest.fixture
def quiet() -> Progress:
    return Progress(Console(quiet=True))


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with `embedding` and `sentiment` of 2 layers and width 16."""
    root = tmp_path_factory.mktemp("store")
    checkpoint = tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    repository = ModelRepository(root)
    progress = Progress(Console(quiet=True))
    publish_embedding(repository, "embedding", checkpoint, progress, SENTENCES, only_fp32)
    classifier = ClassificationModel(checkpoint.encoder, "mean", labels=3).eval()
    torch.nn.init.normal_(classifier.classifier.weight)
    record = TrainingRecord(("negative", "neutral", "positive"), {}, "0" * 64, seed=0)
    publish(repository, "sentiment", classifier, checkpoint, progress, SENTENCES, only_fp32, record)
    return root
