"""Vectors trained on pairs: each objective moves what it says, also for vectors cut short."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from typer.testing import CliRunner

from service import cli
from service.errors import DatasetInvalid, InvalidField
from service.offline.checkpoints import Checkpoint
from service.offline.data import ScoredPair
from service.offline.embedding_training import (
    EmbeddingConfig,
    TrainedEmbedding,
    pair_loss,
    train_embedding,
)
from service.offline.predict import Predictor
from service.offline.progress import Progress
from service.offline.training.batches import packed_tensors
from service.offline.training.pair_losses import read_objective, right_answers
from service.offline.training.state import BEST_FILE
from service.runtime.outputs import truncate_dimensions
from service.store.repository import ModelRepository
from tests.conftest import tiny_checkpoint, tiny_tokenizer
from tests.offline.killing import first_step_told, kill_on_its_way, saved_step
from tests.offline.test_workshop import save_checkpoint

WORDS = ("the", "a", "train", "food", "nine", "leaves", "at", "good", "bad", "not")
# Alike is what ends alike.
PAIRS = [
    ScoredPair(f"{a} {end}", f"{b} {other}", float(end == other))
    for a in WORDS[:6]
    for b in WORDS[:6]
    for end in ("good", "bad", "not")
    for other in ("good", "bad", "not")
]
BELONGING = [ScoredPair(f"{a} {b}", f"{b} {a} {b}", 1.0) for a in WORDS for b in WORDS if a != b]
FAST = EmbeddingConfig(epochs=6, batch_size=16, learning_rate=3e-3)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return tiny_checkpoint(tmp_path)


@pytest.mark.parametrize("objective", ["cosine", "ranking"])
def test_scored_pairs_set_the_cosines(
    checkpoint: Checkpoint, quiet: Progress, objective: str
) -> None:
    config = replace(FAST, objective=read_objective(objective))
    untrained = replace(config, epochs=1, learning_rate=0.0)
    before = train_embedding(checkpoint, PAIRS, PAIRS[::4], untrained, quiet, "toy")
    trained = train_embedding(checkpoint, PAIRS, PAIRS[::4], config, quiet, "toy")
    assert trained.metrics["dev_spearman"] > before.metrics["dev_spearman"] + 0.2
    assert trained.metrics["dev_spearman"] > 0.75


def test_texts_that_belong_together_find_each_other(
    checkpoint: Checkpoint, quiet: Progress
) -> None:
    config = replace(FAST, objective="contrastive", epochs=20)
    untrained = replace(config, epochs=1, learning_rate=0.0)
    before = train_embedding(checkpoint, BELONGING, BELONGING[::3], untrained, quiet, "toy")
    trained = train_embedding(checkpoint, BELONGING, BELONGING[::3], config, quiet, "toy")
    assert trained.metrics["dev_recall_at_1"] > before.metrics["dev_recall_at_1"]
    assert trained.metrics["dev_recall_at_1"] > 0.8
    assert trained.history[-1].keys() == {"step", "loss", "recall_at_1"}
    assert "dev_spearman" not in trained.metrics


def spearman_of(trained: TrainedEmbedding, pairs: Sequence[ScoredPair]) -> float:
    tokenizer = tiny_tokenizer()

    def vectors(texts: list[str]) -> torch.Tensor:
        with torch.inference_mode():
            rows = trained.model(*packed_tensors([tokenizer.encode(one).ids for one in texts]))
        return torch.nn.functional.normalize(rows, dim=1)

    firsts = vectors([pair.first for pair in pairs])
    cosines = (firsts * vectors([pair.second for pair in pairs])).sum(dim=1)
    return float(spearmanr(cosines.numpy(), [pair.score for pair in pairs]).statistic)


def test_kept_weights_are_those_on_the_way_that_the_dev_pairs_like_best(
    checkpoint: Checkpoint, quiet: Progress
) -> None:
    right = train_embedding(checkpoint, PAIRS, PAIRS[::4], FAST, quiet, "toy")
    assert right.metrics["dev_spearman"] >= max(look["spearman"] for look in right.history)
    # It unlearns: on the way back lies something better than where it ended.
    opposite = [replace(pair, score=1 - pair.score) for pair in PAIRS]
    wrong = train_embedding(checkpoint, opposite, PAIRS[::4], FAST, quiet, "toy")
    assert wrong.metrics["dev_spearman"] > wrong.history[-1]["spearman"]
    # And that is what is handed back.
    for trained in (wrong, right):
        found = spearman_of(trained, PAIRS[::4])
        assert found == pytest.approx(trained.metrics["dev_spearman"], abs=1e-3)


def test_contrastive_loss_is_least_where_each_is_nearest_its_own() -> None:
    config = EmbeddingConfig(objective="contrastive")
    eye = torch.eye(4)
    own = pair_loss(torch.cat([eye, eye]), torch.ones(4), config)
    others = pair_loss(torch.cat([eye, eye.roll(1, 0)]), torch.ones(4), config)
    assert float(own) < 1e-6
    assert float(others) > 10


@pytest.mark.parametrize(
    ("pairs", "groups"),
    [
        ("ax bx cy", ("abx", "cy")),
        ("ax ay bz", ("axy", "bz")),
        ("ax ax by", ("ax", "by")),
        ("ax ay bx by cz", ("abxy", "cz")),
    ],
    ids=["one answer", "one question", "one pair", "all of both"],
)
def test_same_text_twice_costs_a_perfect_encoder_nothing(
    pairs: str, groups: tuple[str, ...]
) -> None:
    firsts, seconds = ([pair[side] for pair in pairs.split()] for side in (0, 1))
    place = {text: row for row, group in enumerate(groups) for text in group}
    vectors = torch.eye(len(groups))[[place[text] for text in firsts + seconds]]
    config = EmbeddingConfig(objective="contrastive")
    scores = torch.ones(len(firsts))
    right = right_answers(firsts, seconds)
    assert float(pair_loss(vectors, scores, config, right)) < 1e-6
    assert float(pair_loss(vectors, scores, config)) > 0.3
    near_strangers = torch.cat([vectors[: len(firsts)], vectors[len(firsts) :].flip(1)])
    assert float(pair_loss(near_strangers, scores, config, right)) > 10


def test_no_wrong_answers_are_those_that_a_pair_names_and_the_text_itself() -> None:
    # d is not known to be an answer to a; b stands on both sides.
    right = right_answers(["a", "b", "a", "e"], ["b", "d", "f", "b"])
    assert right.tolist() == [
        [True, False, True, True],
        [True, True, False, True],
        [True, False, True, True],
        [True, False, False, True],
    ]


def test_answer_to_several_questions_is_found_by_each(
    checkpoint: Checkpoint, quiet: Progress
) -> None:
    """Of ten questions to one answer, nine were told that the answer was another's."""
    several = [ScoredPair(f"{word} {end}", f"the {end}", 1.0) for word in WORDS for end in WORDS]
    config = replace(FAST, objective="contrastive", epochs=10)
    trained = train_embedding(checkpoint, several, several[::3], config, quiet, "toy")
    assert trained.metrics["dev_recall_at_1"] > 0.8


def test_ranking_loss_asks_for_order_and_not_for_values() -> None:
    config = EmbeddingConfig(objective="ranking")
    firsts = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    near_and_far = torch.tensor([[1.0, 0.1], [0.1, 1.0]])
    scores = torch.tensor([0.9, 0.2])
    right = pair_loss(torch.cat([firsts, near_and_far]), scores, config)
    wrong = pair_loss(torch.cat([firsts, near_and_far.flip(0)]), scores, config)
    assert float(right) < 1e-6
    assert float(wrong) > 10


def test_matryoshka_trains_the_vector_cut_short_too(
    checkpoint: Checkpoint, quiet: Progress
) -> None:
    """Without it the first dimension need not say anything by itself."""
    vectors = torch.tensor([[1.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 1.0, 0.0]])
    config = EmbeddingConfig(objective="cosine")
    whole = pair_loss(vectors, torch.tensor([0.0]), config)
    cut = pair_loss(vectors, torch.tensor([0.0]), replace(config, matryoshka_dimensions=(2,)))
    assert float(whole) == pytest.approx(0)
    assert float(cut) == pytest.approx(0.5)
    with pytest.raises(DatasetInvalid, match="from 1 to 16"):
        train_embedding(
            checkpoint, PAIRS, PAIRS, replace(FAST, matryoshka_dimensions=(32,)), quiet, "toy"
        )


def test_pairs_of_one_score_are_refused_with_the_remedy(
    checkpoint: Checkpoint, quiet: Progress
) -> None:
    with pytest.raises(DatasetInvalid, match="--objective contrastive"):
        train_embedding(checkpoint, BELONGING, BELONGING, FAST, quiet, "toy")
    with pytest.raises(InvalidField, match="cosine, ranking or contrastive"):
        read_objective("triplet")


def command(folder: Path, store: str, *more: str) -> list[str]:
    base, data = folder / "base", folder / "pairs.tsv"
    if not base.exists():
        base.mkdir()
        save_checkpoint(base)
        rows = [f"{pair.first}\t{pair.second}\t{pair.score}" for pair in PAIRS]
        data.write_text("\n".join(["sentence1\tsentence2\tscore", *rows]), encoding="utf-8")
    return [
        *["train-embedding", "pairs", "--data", str(data), "--base", str(base)],
        *["--matryoshka", "4,8", "--epochs", "2", "--batch-size", "8"],
        *["--model-store", str(folder / store), *more],
    ]


def test_trained_vectors_are_published_with_the_sizes_they_may_be_cut_to(tmp_path: Path) -> None:
    arguments = command(tmp_path, "store")
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    model = ModelRepository(tmp_path / "store").resolve("pairs")
    assert model.manifest.task == "embedding"
    assert model.manifest.matryoshka_dimensions == (4, 8)
    rows = Predictor(model.path, model.manifest, "fp32").rows(["the food is good"])
    assert np.linalg.norm(truncate_dimensions(rows, 4)) == pytest.approx(1, abs=1e-5)


def test_report_of_texts_that_belong_together_says_who_finds_whom(tmp_path: Path) -> None:
    arguments = command(tmp_path, "store", "--objective", "contrastive")
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    model = ModelRepository(tmp_path / "store").resolve("pairs")
    assert "dev_recall_at_1" in model.manifest.metrics
    report = json.loads((model.path / "report" / "metrics.json").read_text())
    found = report["measured"]["measures"]
    for name in ("recall_at_1", "mean_reciprocal_rank", "recall_at_1_at_4"):
        assert 0 <= found[name] <= 1
    assert "spearman" not in found


def test_killed_training_goes_on_to_the_same_vectors(tmp_path: Path) -> None:
    runner = CliRunner()
    whole = runner.invoke(cli.app, command(tmp_path, "whole"), catch_exceptions=False)
    assert whole.exit_code == 0, whole.output
    kill_on_its_way(command(tmp_path, "killed", "--save-every-s", "0"))
    state = tmp_path / "killed" / ".training" / "pairs"
    step = saved_step(state)
    assert (state / BEST_FILE).exists()
    again = runner.invoke(cli.app, command(tmp_path, "killed"), catch_exceptions=False)
    assert again.exit_code == 0, again.output
    assert first_step_told(again.output) > step
    first, second = (
        ModelRepository(tmp_path / name).resolve("pairs").manifest.files["model.onnx"].sha256
        for name in ("whole", "killed")
    )
    assert first == second
