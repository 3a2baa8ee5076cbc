"""Dropout: its share of all elements, as likely at every place, the same for the same seed."""

import pytest
import torch

from service.offline.dropout import Dropout


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_its_share_is_dropped_and_the_mean_is_kept(probability: float) -> None:
    torch.manual_seed(1)
    dropped = Dropout(probability)(torch.ones(1000, 1000))
    assert (dropped == 0).float().mean().item() == pytest.approx(probability, abs=0.003)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)
    assert len(dropped.unique()) == 2


def test_every_place_is_dropped_as_often() -> None:
    torch.manual_seed(2)
    dropped = Dropout(0.25)(torch.ones(20_000, 7)) == 0
    by_column = dropped.float().mean(dim=0)
    torch.testing.assert_close(by_column, torch.full((7,), 0.25), atol=0.015, rtol=0)
    # Neighbours come from one draw: they are dropped independently all the same.
    both = (dropped[:, 0] & dropped[:, 1]).float().mean().item()
    assert both == pytest.approx(0.25**2, abs=0.01)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (5,), (2, 3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_shape_and_type_keeps_them(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    dropped = Dropout(0.1)(torch.ones(shape, dtype=dtype))
    assert dropped.shape == shape
    assert dropped.dtype == dtype


def test_the_same_seed_drops_the_same_and_another_does_not() -> None:
    dropout, values = Dropout(0.5), torch.ones(999)
    found = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        found.append(dropout(values))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_only_what_was_kept_learns() -> None:
    torch.manual_seed(3)
    values = torch.randn(200, requires_grad=True)
    dropped = Dropout(0.5)(values)
    torch.autograd.backward(dropped.sum())
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.where(dropped == 0, 0.0, 2.0))


def test_nothing_is_dropped_outside_training_or_without_a_probability() -> None:
    values = torch.randn(50)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0)(values), values)


@pytest.mark.parametrize("probability", [1.0, 1 - 1e-6])
def test_all_is_dropped_where_nothing_is_to_be_kept(probability: float) -> None:
    assert torch.equal(Dropout(probability)(torch.ones(50)), torch.zeros(50))


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_what_is_no_probability_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        Dropout(probability)
