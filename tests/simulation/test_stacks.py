"""Simulated volumes and movies against closed forms."""

import numpy as np
import pytest

from ddpm_lightning.datasets.simulated_stacks import SimulatedStacks
from ddpm_lightning.simulation.movie import MARGIN, MOTIONS, Movie, beating, bleaching, diffusion, transient
from ddpm_lightning.simulation.optics import FWHM_PER_SIGMA
from ddpm_lightning.simulation.volume import Psf3d, Volume, splat


def width(profile: np.ndarray) -> float:
    """Returns the full width at half maximum of a Gaussian profile from its second moment."""
    places = np.arange(len(profile))
    centre = np.average(places, weights=profile)
    return float(FWHM_PER_SIGMA * np.sqrt(np.average((places - centre) ** 2, weights=profile)))


def test_a_point_has_the_width_of_the_focus():
    point = np.array([[20.3, 24.0, 24.7]])
    image = Psf3d(lateral=4.0, axial=6.0, haze=0.0)(splat(point, np.ones(1), (40, 48, 48)))
    assert image.sum() == pytest.approx(1, abs=1e-4)
    # Off the grid, the shares of a point among voxels add a little to its width, on it they take as much away.
    assert width(image.sum((1, 2))) == pytest.approx(6, abs=0.25)
    assert width(image.sum((0, 1))) == pytest.approx(4, abs=0.25)


def test_light_out_of_focus_is_a_fraction_of_the_light():
    points = splat(np.array([[32.0, 40, 40]]), np.ones(1), (64, 80, 80))
    focus, both = Psf3d(3, 3, 0.0)(points), Psf3d(3, 3, 0.4, 20, 16)(points)
    assert both.sum() == pytest.approx(1, abs=1e-3)
    # Ten planes away, only light from out of focus is left: a Gaussian along the axis.
    sigma = 16 / FWHM_PER_SIGMA
    assert both[42].sum() == pytest.approx(
        0.4 * np.exp(-(10**2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi)), rel=0.02
    )
    assert focus[42].sum() < 1e-6


def test_neighbouring_planes_share_what_the_focus_spans():
    def correlation(axial: float) -> float:
        light, _ = Volume(planes=8, axial=(axial, axial), haze=(0.0, 0.0))(np.random.default_rng(3), 64)
        return float(np.corrcoef(light[3].ravel(), light[4].ravel())[0, 1])

    assert correlation(8.0) > 0.9 > correlation(1.5)


def test_spots_diffuse():
    paths = diffusion(np.random.default_rng(0), 4000, 9, 0.5)
    squares = np.square(paths).sum(-1).mean(1)
    assert squares == pytest.approx(4 * 0.5 * np.arange(9), rel=0.06)


def test_bleaching_beating_and_transients():
    assert bleaching(9, 4.0)[[0, 4, 8]] == pytest.approx([1, np.exp(-1), np.exp(-2)])
    moved = beating(np.array([[0.0, 5.0], [20.0, 5.0]]), 9, 3.0, 8.0, 40.0)
    assert moved[2, 0] == pytest.approx([0, 3]) and moved[8] == pytest.approx(moved[0], abs=1e-9)
    # Half a wavelength away, the wave has the opposite sign.
    assert moved[:, 1] == pytest.approx(-moved[:, 0], abs=1e-9)
    trace = transient(9, 2.0, 2.0, 3.0)
    assert trace == pytest.approx([0, 0, 0, 0.5, 1, *np.exp(-np.arange(1, 5) / 3)])


def test_transients_have_their_known_traces():
    movie = Movie(planes=8, motions=("still",), bleached=0.0, jump=0.0, transients=6)
    light, truth = next(
        (light, truth)
        for light, truth in (movie(np.random.default_rng(k), 64, 0) for k in range(9))
        if len(truth["places"])
    )
    dark, _ = light - light[0], truth
    for place, trace in zip(truth["places"], truth["traces"], strict=True):
        apart = np.linalg.norm(truth["places"] - place, axis=1)
        if np.sort(apart)[1:2].min(initial=99) > 8:
            row, column = np.round(place).astype(int)
            measured = dark[:, row, column] / max(dark[:, row, column].max(), 1e-9)
            assert measured == pytest.approx(trace / trace.max(), abs=0.01)


def test_the_stage_jumps_and_light_bleaches():
    movie = Movie(planes=6, motions=("still",), bleached=1.0, jump=1.0, transients=0)
    light, truth = movie(np.random.default_rng(1), 64, 0)
    first = int(np.flatnonzero(truth["shift"].any(1))[0])
    sums = light[:, 8:-8, 8:-8].sum((1, 2))
    assert sums[:first] / sums[0] == pytest.approx(truth["bleaching"][:first], rel=1e-6)
    expected = np.fft.fftshift(np.fft.ifft2(np.fft.fft2(light[first]) * np.fft.fft2(light[0]).conj()).real)
    peak = np.array(np.unravel_index(expected.argmax(), expected.shape)) - 32
    assert np.abs(peak - truth["shift"][first]).max() <= 1
    assert MARGIN > 6


def test_stacks_depend_on_their_number_alone(tmp_path):
    for specimen in (Volume(planes=4), Movie(planes=4)):
        made = [
            SimulatedStacks(specimen, "train", len(MOTIONS), 32, (20.0, 20.0), cache=cache)
            for cache in (None, tmp_path, tmp_path)
        ]
        last = [stacks[len(MOTIONS) - 1] for stacks in made]
        assert last[0].low.shape == last[0].high.shape == (4, 32, 32)
        assert all(np.array_equal(other.low, last[0].low) for other in last[1:])
        assert not np.array_equal(made[0][0].low, last[0].low)
        noise = (last[0].low - last[0].high).ravel()
        # Photons, read noise and rounding, in grey levels at a gain of 2 and an offset of 100.
        assert 2 * (last[0].high.mean() - 100) < noise.var() < 2 * (last[0].high.mean() - 100) + 4 * 4 + 1
