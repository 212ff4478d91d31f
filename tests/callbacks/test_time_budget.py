"""The cadence of work that may take a share of the time, with a clock that only the test moves."""

import pytest

from ddpm_lightning.callbacks.time_budget import TimeBudget


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def work(share: float, epoch: float, cost: float, epochs: int) -> tuple[list[int], float]:
    """Returns the epochs that were worked in, and the share of the time that this took."""
    clock, worked = Clock(), []
    budget = TimeBudget(share, clock)
    budget.start()
    for number in range(epochs):
        clock.now += epoch
        if budget.allows():
            worked.append(number)
            with budget.measured():
                clock.now += cost
    return worked, budget.spent / (clock.now - 1000)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize(("epoch", "cost"), [(0.5, 3), (10, 3), (60, 6), (7200, 20)])
def test_the_fraction_is_kept_and_used(share, epoch, cost):
    worked, spent = work(share, epoch, cost, 2000)
    assert worked[0] == 0, "the first shows what it costs"
    assert spent <= share
    affordable = min(1.0, share * epoch / cost)
    assert len(worked) >= 0.8 * affordable * 2000


def test_long_epochs_are_all_scored():
    assert work(0.1, 3600, 60, 50)[0] == list(range(50))


def test_short_epochs_are_scored_at_even_distances():
    worked, _ = work(0.1, 1, 1, 200)
    assert {later - before for before, later in zip(worked[2:], worked[3:], strict=False)} <= {9, 10}


def test_a_fraction_of_one_allows_everything():
    assert work(1, 0.1, 5, 20)[0] == list(range(20))


def test_a_start_forgets_what_was_spent():
    clock = Clock()
    budget = TimeBudget(0.1, clock)
    with budget.measured():
        clock.now += 10
    assert not budget.allows()
    budget.start()
    assert budget.allows() and budget.spent == 0
