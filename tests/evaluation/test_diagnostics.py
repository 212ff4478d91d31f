"""Each signature of failure is found where it was planted, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest

from ddpm_lightning.evaluation.diagnostics import inconsistent_samples, over_smoothing, poor_generalisation
from ddpm_lightning.evaluation.distribution_shift import InputReference
from ddpm_lightning.evaluation.spectra import Spectra
from tests.evaluation.gaussian import gaussian_scores


@pytest.fixture(scope="module")
def honest():
    return gaussian_scores()


def with_ratios(scores, single, average):
    curves = np.ones(64)
    spectra = Spectra(
        {"target": curves}, {}, {}, (0.1, 0.2), {"raw": 1.0, "single": single, "average": average}
    )
    return [replace(image, spectra=spectra) for image in scores]


@pytest.mark.parametrize(
    ("single", "average", "title", "verdict", "words"),
    [
        (0.9, 0.8, "Fine structure", "fine", "no over-smoothing"),
        (0.9, 0.3, "Over-smoothing by averaging", "suspect", "the average blurs it away"),
        (0.3, 0.25, "Over-smoothing", "suspect", "single samples are too smooth"),
        (2.5, 0.9, "Too much fine structure", "suspect", "more fine structure"),
        (12.21, 12.21, "Too much fine structure", "suspect", "more fine structure"),
        (1.4, 1.6, "Too much fine structure", "suspect", "more fine structure"),
    ],
)
def test_over_smoothing(honest, single, average, title, verdict, words):
    found = over_smoothing(with_ratios(honest, single, average), 0.02)
    assert (found.title, found.verdict) == (title, verdict) and words in found.sentence
    assert "100 to 200 nm" in found.sentence and f"{single:.0%}" in found.sentence
    assert "5.0 to 10.0 px" in over_smoothing(with_ratios(honest, single, average)).sentence


def test_blurred_noise_of_samples_is_no_structure(honest):
    assert over_smoothing([replace(image, spectra=None) for image in honest]).verdict == "unknown"


def test_honest_samples_are_consistent_in_size(honest):
    found = inconsistent_samples(honest)
    assert "as large as the error" in found.sentence and found.numbers["spread_skill"] == pytest.approx(
        1, abs=0.02
    )
    # Their spread is the same everywhere: it cannot point to the places of the error.
    assert found.verdict == "suspect" and "in the wrong places" in found.sentence
    assert found.title == "Disagreement in the wrong places"


@pytest.mark.parametrize(("width", "words"), [(0.4, "overconfident"), (2.5, "scatter more than they err")])
def test_samples_of_the_wrong_width(width, words):
    found = inconsistent_samples(gaussian_scores(images=2, width=width, side=48))
    assert found.verdict == "suspect" and words in found.sentence
    assert found.title.startswith("Overconfident" if width < 1 else "Underconfident")


def test_a_single_sample_says_nothing():
    found = inconsistent_samples(gaussian_scores(images=1, samples=1, side=32))
    assert found.verdict == "unknown" and "at least 2 samples" in found.sentence


def reference_of(scores, shift=0.0):
    names = scores[0].input
    values = {name: [image.input[name] + shift for image in scores] for name in names}
    return InputReference(values)


def test_generalisation(honest):
    many = gaussian_scores(images=10, samples=2, side=48)
    inside = poor_generalisation(many, reference_of(many))
    assert inside.title == "Inputs like the training images"
    assert inside.verdict == "fine" and "None of 10 inputs" in inside.sentence
    outside = poor_generalisation(many, reference_of(many, shift=5.0))
    assert outside.title == "Inputs unlike the training images"
    assert outside.verdict == "suspect" and "10 of 10 inputs are outside" in outside.sentence
    set_apart = poor_generalisation(many[:1] * 10, reference_of(many))
    assert set_apart.verdict == "suspect" and "as a set they are unlike" in set_apart.sentence
    one = [*many[:9], replace(many[9], input={**many[9].input, "noise": 50.0})]
    single = poor_generalisation(one, reference_of(many))
    assert single.verdict == "fine" and "1 of 10" in single.sentence and "noise level" in single.sentence


def test_without_a_reference_nothing_is_claimed(honest):
    found = poor_generalisation(honest, None, "the training images are not here")
    assert found.verdict == "unknown" and "not here" in found.sentence
    assert "only 4 training images" in poor_generalisation(honest, reference_of(honest)).sentence
