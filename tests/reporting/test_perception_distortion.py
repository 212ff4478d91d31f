"""The perception-distortion trade-off: its error is a parabola in λ."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddpm_lightning.data.normalise import FixedRange, PairNormalisation
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.diffusion.flow import Euler
from ddpm_lightning.evaluation.image_scores import Scoring, score_image
from ddpm_lightning.evaluation.restored_pair import restore_pair
from ddpm_lightning.evaluation.split_summary import realism
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.models.method import Posterior
from ddpm_lightning.reporting.perception_distortion import plot_realism, realism_table

SHARES = (0.0, 0.25, 0.5, 1.0)


class Jumps(torch.nn.Module):
    """Samples are the low image and noise; with a sampler that knows realism, less of it."""

    size_divisor, deterministic, antithetic, bounds, evaluations, preset = (
        1,
        False,
        False,
        (-1.0, 1.0),
        1,
        "jumps",
    )

    neighbours = 0

    def __init__(self, sampler=None):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        if sampler is not None:
            self.sampler = sampler

    def posterior(self, low, apply):
        return Posterior(low) if hasattr(self, "sampler") else None

    def sample_around(self, posterior, low, noise, apply):
        return self.sample(low, noise, apply)

    def sample(self, low, noise, apply):
        share = self.sampler.realism if hasattr(self, "sampler") else 1.0
        return low + 0.1 * share * noise(0, low.shape[1:], low.device)


def scores(method):
    rng = np.random.default_rng(0)
    high = rng.uniform(20, 80, (48, 48)).astype(np.float32)
    low = high + rng.normal(0, 3, high.shape).astype(np.float32)
    normalisation = PairNormalisation(FixedRange(0, 100), FixedRange(0, 100))
    restorer = Restorer(
        SimpleNamespace(
            method=method,
            normalisation=normalisation,
            card={},
            most_noise=None,
            tta=False,
            mean="average",
            std_by_network=False,
            sample_count=lambda samples, requested: samples,
        ),
        tile=None,
    )
    restored = restore_pair(restorer, Pair(low, high, "one", "field"), [1, 4])
    return score_image(0, restored, Scoring(samples=4, spectra=False, realism=SHARES), restorer)


def errors(found):
    """Mean squared errors in units of the range, from PSNR."""
    return {share: 10 ** (-values["psnr"] / 10) for share, values in found.against_realism.items()}


@pytest.mark.parametrize(
    "sampler", [None, Euler(realism=1.0)], ids=["average of samples", "mean of the model"]
)
def test_the_error_is_a_parabola_that_ends_at_the_sample(sampler):
    found = scores(Jumps(sampler))
    mse = errors(found)
    parabola = np.polynomial.Polynomial.fit([0, 0.5, 1], [mse[0.0], mse[0.5], mse[1.0]], 2)
    assert parabola(0.25) == pytest.approx(mse[0.25], rel=1e-4)
    assert found.against_realism[1.0]["psnr"] == pytest.approx(found.rows[1].values["psnr"])
    start = found.rows[2 if sampler is None else 0].values["psnr"]
    assert found.against_realism[0.0]["psnr"] == pytest.approx(start, abs=1e-3)
    assert sampler is None or sampler.realism == 1.0


def test_means_table_and_plot(tmp_path):
    scores = [
        SimpleNamespace(against_realism={0.0: {"psnr": p, "lpips": 0.3}, 1.0: {"psnr": p - 2, "lpips": 0.1}})
        for p in (20.0, 30.0)
    ]
    means = realism(scores)
    assert means == {
        "psnr": {0.0: 25.0, 1.0: 23.0},
        "lpips": {0.0: pytest.approx(0.3), 1.0: pytest.approx(0.1)},
    }
    assert realism_table(means)[2:] == ["| 0 | ∞ | 25 | 0.3 |", "| 1 | 1 | 23 | 0.1 |"]
    assert (
        plot_realism(means, "affine", tmp_path / "way.png") and (tmp_path / "way.png").stat().st_size > 3000
    )
    assert not plot_realism({"psnr": means["psnr"]}, "affine", tmp_path / "none.png")
    assert realism([SimpleNamespace(against_realism={})]) is None
