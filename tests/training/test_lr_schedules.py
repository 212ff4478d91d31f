import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from ddpm_lightning.training.lr_schedules import Cosine, LinearFall, Plateau


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def rates(sgd: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list:
    seen = []
    for _ in range(steps):
        sgd.step()
        scheduler.step()
        seen.append(sgd.param_groups[0]["lr"])
    return seen


@pytest.mark.parametrize(("total", "rise"), [(200, 8), (50, 5)])
def test_cosine_is_that_of_torch_after_a_rise_of_at_most_a_tenth(total, rise):
    ours, theirs = optimizer(), optimizer()
    parts = [
        LinearLR(theirs, start_factor=1 / (rise + 1), total_iters=rise),
        CosineAnnealingLR(theirs, T_max=total - rise),
    ]
    expected = rates(theirs, SequentialLR(theirs, parts, milestones=[rise]), total)
    assert rates(ours, Cosine(warmup=8)(ours, total)["scheduler"], total) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("first", [8, 40], ids=["too short for a rise", "with a rise"])
def test_a_longer_run_follows_the_new_cosine(first):
    whole, part, longer = optimizer(), optimizer(), optimizer()
    expected = rates(whole, Cosine(warmup=8)(whole, 100)["scheduler"], 100)
    shorter = Cosine(warmup=8)(part, first)["scheduler"]
    assert rates(part, shorter, first)[-1] == 0
    scheduler = Cosine(warmup=8)(longer, 100)["scheduler"]
    scheduler.load_state_dict(shorter.state_dict())
    assert rates(longer, scheduler, 100 - first) == pytest.approx(expected[first:])


def test_linear_fall_is_that_of_pix2pix():
    """100 epochs constant and 100 falling: 1 - max(0, epoch + 1 - 100) / 101."""
    sgd = optimizer()
    scheduler = LinearFall()(sgd, total_steps=200)["scheduler"]
    for epoch in range(200):
        assert sgd.param_groups[0]["lr"] == pytest.approx(1 - max(0, epoch + 1 - 100) / 101)
        sgd.step()
        scheduler.step()


def test_plateau_waits_then_falls():
    sgd = optimizer()
    description = Plateau(factor=0.2, patience=2)(sgd, total_steps=1)
    assert description["monitor"] == "val/loss" and description["interval"] == "epoch"
    seen = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.8):
        description["scheduler"].step(loss)
        seen.append(sgd.param_groups[0]["lr"])
    assert seen == pytest.approx([1, 1, 1, 1, 0.2, 0.2])
