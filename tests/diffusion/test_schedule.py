import mpmath
import pytest
import torch

from ddpm_lightning.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule, log_snr


def cosine_alpha_bar(steps: int, s: str, max_beta: str) -> list[mpmath.mpf]:
    """The cosine table in 50 digits, from the definition."""
    with mpmath.workdps(50):
        s, cap = mpmath.mpf(s), mpmath.mpf(max_beta)
        f = [mpmath.cos((mpmath.mpf(t) / steps + s) / (1 + s) * mpmath.pi / 2) ** 2 for t in range(steps + 1)]
        table = [mpmath.mpf(1)]
        for t in range(1, steps + 1):
            table.append(table[-1] * (1 - min(1 - f[t] / f[t - 1], cap)))
        return table


@pytest.mark.parametrize("steps", [1, 10, 200, 1000])
def test_cosine_table_equals_fifty_digit_values(steps):
    table = CosineSchedule(steps).alpha_bar
    assert table.dtype == torch.float64
    for ours, exact in zip(table.tolist(), cosine_alpha_bar(steps, "0.008", "0.999"), strict=True):
        assert abs(ours - float(exact)) <= 1e-12 * float(exact)


def test_the_papers_table_ends_where_its_code_does():
    schedule = CosineSchedule(200)
    assert schedule.alpha_bar[-1].item() == pytest.approx(6.07e-8, rel=1e-2)
    assert schedule.betas.max().item() == 0.999


def test_linear_table_equals_fifty_digit_values():
    with mpmath.workdps(50):
        exact, table = mpmath.mpf(1), [mpmath.mpf(1)]
        for t in range(200):
            beta = mpmath.mpf("0.0005") + (mpmath.mpf("0.1") - mpmath.mpf("0.0005")) * t / 199
            exact *= 1 - beta
            table.append(exact)
    torch.testing.assert_close(
        LinearSchedule(200).alpha_bar,
        torch.tensor([float(v) for v in table], dtype=torch.float64),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("schedule", [CosineSchedule(200), LinearSchedule(200), CosineSchedule(1)])
def test_tables_fall_from_one_and_stay_positive(schedule):
    assert schedule.alpha_bar[0] == 1
    assert (schedule.alpha_bar.diff() < 0).all()
    assert (schedule.alpha_bar > 0).all()


def test_levels_are_uniform_between_neighbours_of_the_table():
    schedule = CosineSchedule(10)
    uniform = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = schedule.levels(uniform)
    t = 1 + (uniform[:, 0] * 10).long()
    share = (levels - schedule.alpha_bar[t]) / (schedule.alpha_bar[t - 1] - schedule.alpha_bar[t])
    assert 0 <= share.min() and share.max() <= 1
    assert torch.histc(share, 10, 0, 1).std() < 60  # 2000 for each bin, binomial spread 42
    assert torch.bincount(t)[1:].double().std() < 100
    assert torch.equal(schedule.levels(uniform, continuous=False), schedule.alpha_bar[t])


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [200, 0]), (5, [200, 160, 120, 80, 40, 0]), (200, [*range(200, -1, -1)])]
)
def test_strided_grids(count, expected):
    assert CosineSchedule(200).times(count) == expected


@pytest.mark.parametrize("count", [0, 201, -1])
def test_impossible_grids_are_refused(count):
    with pytest.raises(ValueError, match=r"sampler\.steps"):
        CosineSchedule(200).times(count)


def test_log_snr_is_finite_at_both_ends_and_the_logit_between():
    alpha_bar = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        log_snr(alpha_bar),
        torch.tensor([-20, torch.logit(torch.tensor(0.2)).item(), 0, 20], dtype=torch.float64),
    )


@pytest.mark.parametrize("betas", [[], [0.0, 0.1], [0.5, 1.0], [-0.1]])
def test_bad_betas_are_refused(betas):
    with pytest.raises(ValueError, match="betas"):
        Schedule(torch.tensor(betas))


def test_levels_from_the_second_step_on_are_below_that_of_the_first():
    schedule, uniform = CosineSchedule(50), torch.rand(5000, 2, dtype=torch.float64)
    levels = schedule.levels(uniform, first_step=2)
    assert levels.max() <= schedule.alpha_bar[1] < schedule.levels(uniform).max()
    t = schedule.levels(uniform, continuous=False, first_step=2)
    assert set(t.tolist()) == set(schedule.alpha_bar[2:].tolist())
