"""The adversary of training: it makes each text harder by its share, and leaves no trace."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from service.offline.dropout import Dropout
from service.offline.heads import ClassificationModel
from service.offline.training.adversary import Adversary
from service.offline.training.batches import packed_tensors
from tests.conftest import tiny_checkpoint

TEXTS = [[1, 5, 6, 2], [1, 7, 2], [1, 5, 8, 9, 6, 2]]
TARGETS = torch.tensor([0, 1, 0])
EPSILON = 0.1


@pytest.fixture
def model(tmp_path: Path) -> ClassificationModel:
    torch.manual_seed(3)
    made = ClassificationModel(tiny_checkpoint(tmp_path).encoder, "mean", 2, dropout=0.0)
    torch.nn.init.normal_(made.classifier.weight)
    return without_dropout(made).train()


def without_dropout(model: ClassificationModel) -> ClassificationModel:
    for module in model.modules():
        if isinstance(module, Dropout):
            module.probability = 0.0
    return model


def losses(model: ClassificationModel, texts: Sequence[Sequence[int]], targets: Tensor) -> Tensor:
    return functional.cross_entropy(model(*packed_tensors(texts)), targets, reduction="none")


def moves(model: ClassificationModel, rows: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Of each of these texts: what was embedded, and by how much it is moved."""
    texts, seen = [TEXTS[row] for row in rows], []
    adversary = Adversary(model.encoder.embeddings, EPSILON)
    watch = model.encoder.embeddings.register_forward_hook(
        lambda module, given, output: seen.append(output.detach())
    )
    torch.autograd.backward(losses(model, texts, TARGETS[list(rows)]).sum())
    arrays = packed_tensors(texts)
    with adversary.perturbed(pad_index=arrays[2], unpad_index=arrays[3]):
        losses(model, texts, TARGETS[list(rows)])
    adversary.remove()
    watch.remove()
    sizes = [len(text) for text in texts]
    parts = (value.split(sizes) for value in (seen[0], seen[1] - seen[0]))
    return list(zip(*parts, strict=True))


@pytest.mark.parametrize("frozen", [True, False])
def test_each_text_is_harder_where_it_is_moved_to(model: ClassificationModel, frozen: bool) -> None:
    model.encoder.embeddings.requires_grad_(not frozen)
    adversary = Adversary(model.encoder.embeddings, EPSILON)
    before = losses(model, TEXTS, TARGETS)
    torch.autograd.backward(before.sum())
    arrays = packed_tensors(TEXTS)
    with adversary.perturbed(pad_index=arrays[2], unpad_index=arrays[3]):
        moved = losses(model, TEXTS, TARGETS)
    assert (moved > before).all()
    torch.testing.assert_close(losses(model, TEXTS, TARGETS), before)


def test_each_text_is_moved_by_its_share_whatever_its_length(model: ClassificationModel) -> None:
    for embedded, move in moves(model, [0, 1, 2]):
        assert (move.norm() / embedded.norm()).item() == pytest.approx(EPSILON, rel=1e-3)


def test_neighbours_do_not_change_where_a_text_is_moved_to(model: ClassificationModel) -> None:
    together = moves(model, [0, 1, 2])
    for row in range(3):
        ((_, alone),) = moves(model, [row])
        torch.testing.assert_close(together[row][1], alone, atol=1e-5, rtol=1e-3)


def test_texts_that_teach_nothing_stay_where_they_are(model: ClassificationModel) -> None:
    """Where a loss is flat its gradient is nothing, or too short to be squared."""
    for factor in (0.0, 1e-24, 1e-38):
        adversary = Adversary(model.encoder.embeddings, EPSILON)
        before = losses(model, TEXTS, TARGETS)
        torch.autograd.backward(before.sum() * factor)
        arrays = packed_tensors(TEXTS)
        with adversary.perturbed(pad_index=arrays[2], unpad_index=arrays[3]):
            after = losses(model, TEXTS, TARGETS)
        adversary.remove()
        torch.testing.assert_close(after, before)


def test_nothing_is_moved_outside_training_or_after_it(model: ClassificationModel) -> None:
    arrays = packed_tensors(TEXTS)
    with torch.no_grad():
        outside, inside = model.eval()(*arrays), model.train()(*arrays)
    adversary = Adversary(model.encoder.embeddings, EPSILON)
    torch.autograd.backward(losses(model, TEXTS, TARGETS).sum())
    with adversary.perturbed(pad_index=arrays[2], unpad_index=arrays[3]):
        assert torch.equal(model.eval()(*arrays), outside)
        assert not torch.equal(model.train()(*arrays), inside)
        adversary.remove()
        assert torch.equal(model(*arrays), inside)
    model.encoder.embeddings.requires_grad_(False)
    embedded = model.encoder.embeddings(torch.tensor([1]), torch.tensor([0]), None)
    assert not embedded.requires_grad
