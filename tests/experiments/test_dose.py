"""The factor of light on curves whose answer is known."""

import numpy as np
import pytest

from experiments.dose import run as dose


def rising(shift: float) -> list[float]:
    """PSNR that rises by 3 dB with each doubling of the dose."""
    return [20 + shift + 3 * np.log2(at) for at in dose.DOSES]


@pytest.mark.parametrize(("shift", "ratio"), [(3.0, 2.0), (4.5, 2**1.5), (0.0, 1.0), (-3.0, 0.5)])
def test_a_higher_curve_saves_light_as_the_formula_says(shift, ratio):
    target = 20 + 3 * np.log2(2.0)
    assert dose.times_less(rising(shift), target, 2.0) == pytest.approx(ratio)


def test_what_is_beyond_the_doses_is_a_bound():
    assert dose.written(dose.times_less(rising(0), 0.0, 2.0), 2.0) == "> 8"
    assert dose.written(dose.times_less(rising(0), 99.0, 2.0), 2.0) == "< 0.25"
    assert dose.times_less(rising(0), rising(0)[0], 8.0) == pytest.approx(8.0 / dose.DOSES[0])
    # A dip is levelled: it must not make the dose ambiguous.
    dipped = rising(0)
    dipped[3] = dipped[2] - 1
    assert dose.times_less(dipped, dipped[2], 8.0) == pytest.approx(8.0 / dose.DOSES[2])


def test_the_interval_pairs_images():
    brightness = np.random.default_rng(0).normal(0, 2, 8)
    curve, base = (
        {
            at: {str(i): level + b for i, b in enumerate(brightness)}
            for at, level in zip(dose.DOSES, rising(shift), strict=True)
        }
        for shift in (3.0, 0.0)
    )
    # Images differ by 2 dB, but all of them by the same on both curves: the factor is certain.
    assert dose.saving(curve, base, 2.0) == "2.0 (2.0 to 2.0)"


def test_the_blur_grows_where_light_is_scarce():
    assert dose.blur_of("zebrafish", 96, 0.25) > dose.blur_of("zebrafish", 96, 8.0)
