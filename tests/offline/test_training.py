"""What training loops share: batches, rates, corrections, and states to go on from."""

import hashlib
import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from service.offline.encoder import Encoder, EncoderConfig
from service.offline.training.batches import plan_epoch, share_of
from service.offline.training.lora import add_lora, merge_lora
from service.offline.training.objectives import loss_of
from service.offline.training.optimization import adamw, set_rate, warmup_then_decay
from service.offline.training.state import Progressed, TrainingFolder, clear_state, fingerprint_of

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=300)
CONFIG = EncoderConfig(30, hidden_size=16, layers=2, heads=2, feed_forward_size=16)


@given(lengths=LENGTHS, batch_size=st.integers(1, 40), epoch=st.integers(0, 3))
def test_each_row_is_in_one_batch_of_an_epoch(
    lengths: list[int], batch_size: int, epoch: int
) -> None:
    batches = plan_epoch(lengths, seed=1, epoch=epoch, batch_size=batch_size)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size


@given(lengths=LENGTHS, batch_tokens=st.integers(1, 500))
def test_batches_by_tokens_keep_to_their_budget(lengths: list[int], batch_tokens: int) -> None:
    batches = plan_epoch(lengths, seed=1, epoch=0, batch_tokens=batch_tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[row] for row in batch) <= batch_tokens


def test_epochs_differ_and_seeds_repeat() -> None:
    plans = [
        plan_epoch(list(range(1, 100)), seed=seed, epoch=epoch, batch_size=8)
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]
    assert plans[0] != plans[3]


def test_neighbours_in_length_share_a_batch_unless_lengths_are_to_be_mixed() -> None:
    lengths = [1, 100] * 64
    for batch in plan_epoch(lengths, seed=0, epoch=0, batch_size=8):
        assert len({lengths[row] for row in batch}) == 1
    mixed = plan_epoch(lengths, seed=0, epoch=0, batch_size=8, mixed=True)
    assert sum(len({lengths[row] for row in batch}) for batch in mixed) > 24


@given(rows=st.lists(st.integers(), min_size=1, max_size=40), processes=st.integers(1, 5))
def test_processes_share_a_step_without_leaving_a_row_out(rows: list[int], processes: int) -> None:
    shares = [share_of(rows, rank, processes) for rank in range(processes)]
    assert all(shares)
    assert set(rows) == {row for share in shares for row in share}
    if len(rows) >= processes:
        assert sum(map(len, shares)) == len(rows)


def test_rate_climbs_then_falls_to_nothing() -> None:
    rates = [warmup_then_decay(step, 100, 0.1) for step in range(101)]
    assert rates[9] == 1
    assert rates[0] == pytest.approx(0.1)
    assert rates[100] == 0
    assert all(left > right for left, right in itertools.pairwise(rates[10:]))


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(CONFIG)
        self.classifier = nn.Linear(16, 2)


def test_lower_blocks_learn_slower_and_norms_do_not_decay() -> None:
    model = _Model()
    optimizer = adamw(model, learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    set_rate(optimizer, 0.5)
    rates: dict[int, float] = {}
    decays: dict[int, float] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rates[id(parameter)] = group["lr"]
            decays[id(parameter)] = group["weight_decay"]
    low, high = model.encoder.blocks
    assert rates[id(model.classifier.weight)] == 0.5
    assert rates[id(high.feed_forward.expand.weight)] == 0.25  # type: ignore[union-attr]
    assert rates[id(low.feed_forward.expand.weight)] == 0.125  # type: ignore[union-attr]
    assert rates[id(model.encoder.embeddings.token.weight)] == 0.0625
    assert decays[id(model.encoder.embeddings.norm.weight)] == 0
    assert decays[id(model.classifier.bias)] == 0
    assert decays[id(model.classifier.weight)] == 0.1
    assert len(rates) == len(list(model.parameters()))


def test_lora_changes_little_and_merges_into_the_same_function() -> None:
    torch.manual_seed(0)
    encoder = Encoder(CONFIG).eval()
    arguments = (
        torch.tensor([3, 4, 5]),
        torch.arange(3),
        torch.tensor([[0, 1, 2]]),
        torch.arange(3),
    )
    before = encoder(*arguments)
    add_lora(encoder, rank=2, alpha=4)
    assert torch.allclose(encoder(*arguments), before, atol=1e-6)
    learned = [name for name, value in encoder.named_parameters() if value.requires_grad]
    assert learned
    assert all(name.endswith((".up", ".down")) for name in learned)
    for name, value in encoder.named_parameters():
        if name.endswith(".up"):
            nn.init.normal_(value)
    beside = encoder(*arguments)
    merge_lora(encoder)
    assert not torch.allclose(beside, before, atol=1e-3)
    assert torch.allclose(encoder(*arguments), beside, atol=1e-5)
    assert encoder.state_dict().keys() == Encoder(CONFIG).state_dict().keys()


def test_class_weights_make_a_rare_label_count_as_much_as_a_frequent_one() -> None:
    targets = torch.tensor([0] * 9 + [1])
    logits = torch.zeros(10, 2, requires_grad=True)
    loss = loss_of("single_label", targets, class_weights=True, label_smoothing=0)
    loss(logits, targets).backward()  # type: ignore[no-untyped-call]  # torch's stub
    assert logits.grad is not None
    assert logits.grad.sum(dim=0) == pytest.approx([0, 0], abs=1e-6)


def test_label_smoothing_makes_certainty_cost() -> None:
    sure = torch.tensor([[20.0, -20.0]])
    for problem_type, targets in (
        ("single_label", torch.tensor([0])),
        ("multi_label", torch.tensor([[1.0, 0.0]])),
    ):
        hard, smooth = (
            loss_of(problem_type, targets, class_weights=False, label_smoothing=share)(  # type: ignore[arg-type]
                sure, targets
            )
            for share in (0.0, 0.1)
        )
        assert float(hard) < 1e-6
        assert float(smooth) > 0.5


def trained_for(steps: int, folder: TrainingFolder | None, save_at: int = -1) -> nn.Linear:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    done, _ = folder.load(model, optimizer) if folder else (Progressed(), None)
    for step in range(done.step, steps):
        torch.manual_seed(step)
        model(torch.randn(3, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if folder and step + 1 == save_at:
            best = {"weight": torch.full((2, 4), 3.0)}
            reached = Progressed(step + 1, 0.5, 3, ({"step": 3.0},), smoothed_loss=0.25)
            folder.save(reached, model, optimizer, best)
    return model


def test_run_that_goes_on_from_its_state_ends_in_the_same_weights(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "run", "print")
    trained_for(5, folder, save_at=5)
    again = TrainingFolder(tmp_path / "run", "print")
    went_on = trained_for(9, again)
    assert torch.equal(went_on.weight, trained_for(9, None).weight)
    done, best = again.load(nn.Linear(4, 2), torch.optim.AdamW(nn.Linear(4, 2).parameters()))
    assert (done.step, done.best_score, done.best_step) == (5, 0.5, 3)
    assert done.smoothed_loss == 0.25
    assert best is not None
    assert torch.equal(best["weight"], torch.full((2, 4), 3.0))
    clear_state(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_state_of_other_settings_or_data_is_not_gone_on_with(tmp_path: Path) -> None:
    trained_for(5, TrainingFolder(tmp_path / "run", fingerprint_of("a", 1)), save_at=5)
    model = nn.Linear(4, 2)
    other = TrainingFolder(tmp_path / "run", fingerprint_of("a", 2))
    done, _ = other.load(model, torch.optim.AdamW(model.parameters()))
    assert done == Progressed()


@given(losses=st.lists(st.floats(0, 8), min_size=1, max_size=40))
def test_shown_loss_is_the_mean_first_and_then_moved_by_no_step_far(losses: list[float]) -> None:
    done = Progressed()
    shown = [done.smooth_loss(loss, step) for step, loss in enumerate(losses)]
    for step in range(min(10, len(losses))):
        assert shown[step] == pytest.approx(sum(losses[: step + 1]) / (step + 1))
    for step in range(10, len(losses)):
        moved = abs(shown[step] - shown[step - 1])
        assert moved == pytest.approx(abs(losses[step] - shown[step - 1]) / 10)


def test_shown_loss_comes_to_what_the_steps_lose() -> None:
    done = Progressed()
    last = [done.smooth_loss(loss, step) for step, loss in enumerate([1.0] * 40 + [0.1] * 40)][-1]
    assert last == pytest.approx(0.1, abs=0.02)


FACTS = st.recursive(
    st.one_of(st.text(max_size=3), st.integers(), st.dictionaries(st.text(), st.floats())),
    lambda facts: st.one_of(st.lists(facts), st.lists(facts).map(tuple)),
)


@given(facts=st.lists(FACTS))
def test_fingerprint_without_arrays_is_that_of_one_string(facts: list[object]) -> None:
    """So the states of earlier versions are gone on with."""
    whole = hashlib.sha256(repr(tuple(facts)).encode()).hexdigest()
    assert fingerprint_of(*facts) == whole


def test_fingerprint_of_arrays_counts_each_number_and_how_they_are_parted() -> None:
    ids = np.arange(5000, dtype=np.int32)
    changed = np.where(ids == 2500, 0, ids).astype(np.int32)
    forms = [[ids], [changed], [ids[:9], ids[9:]], [ids.astype(np.int64)]]
    assert len({fingerprint_of(form) for form in forms}) == len(forms)
    assert fingerprint_of([ids]) == fingerprint_of([ids.copy()])


def test_fingerprint_of_many_texts_takes_the_memory_of_one() -> None:
    texts = ["x" * 1000 + str(index) for index in range(2000)]
    ids = [np.arange(1000, dtype=np.int32) for _ in range(2000)]
    tracemalloc.start()
    fingerprint_of(texts, ids)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_state_survives_a_kill_between_the_renames_of_a_save(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "run", "print")
    trained_for(5, folder, save_at=5)
    (tmp_path / "run").rename(tmp_path / "run.old")
    model = nn.Linear(4, 2)
    done, _ = folder.load(model, torch.optim.AdamW(model.parameters()))
    assert done.step == 5


def test_states_hold_nothing_that_is_unpickled(tmp_path: Path) -> None:
    trained_for(2, TrainingFolder(tmp_path / "run", "print"), save_at=2)
    assert {path.suffix for path in (tmp_path / "run").iterdir()} == {".json", ".safetensors"}
