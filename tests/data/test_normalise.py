import json

import numpy as np
import pytest
import torch
from scipy import ndimage

from ddpm_lightning.data.normalise import (
    FixedRange,
    PairNormalisation,
    Percentile,
    Scale,
    matching,
    without_offset,
)


def images(count=5, gain=1.0, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [(gain * rng.gamma(2, 20, (40, 50))).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_the_map_is_invertible(dtype):
    image = images(1, dtype=dtype)[0]
    scale = Scale(3.0, 97.5)
    normalised = scale.normalise(image)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(scale.restore(normalised), image, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scale.normalise(np.array([3.0, 97.5])), [-1, 1], atol=1e-6)
    assert scale.gain == pytest.approx((97.5 - 3) / 2)


def test_a_fixed_range_is_the_papers():
    assert FixedRange().scale(images()[0]) == Scale(0, 255)
    np.testing.assert_allclose(
        FixedRange().scale(images()[0]).normalise(np.array([0, 127.5, 255])), [-1, 0, 1]
    )


def test_percentiles_of_the_data_set_are_medians_over_images():
    normaliser = Percentile(1, 99)
    normaliser.fit(images())
    expected = np.median([np.percentile(image, (1, 99)) for image in images()], axis=0)
    assert (normaliser.fitted.low, normaliser.fitted.high) == pytest.approx(tuple(expected), rel=1e-5)
    assert normaliser.scale(10 * images()[0]) == normaliser.fitted


def test_percentiles_of_each_image_follow_its_gain():
    normaliser = Percentile(1, 99, per_image=True)
    normaliser.fit(images())
    image = images()[0]
    a, b = normaliser.scale(image), normaliser.scale(10 * image + 5)
    np.testing.assert_allclose(a.normalise(image), b.normalise(10 * image + 5), atol=1e-4)


@pytest.mark.parametrize("factor", [1e-28, 1e-10, 1e-7, 1e6])
@pytest.mark.parametrize("most_noise", [None, 0.25])
def test_units_change_nothing_but_the_units(factor, most_noise):
    """An image of 1e-7 V and its twin of 100 mV are the same image."""
    normaliser = Percentile(1, 99.8, per_image=True, blur=2.0, floor=1e-6)
    normaliser.fit(images())
    image = images()[0]
    small = (factor * image.astype(np.float64)).astype(np.float32)
    a, b = normaliser.scale(image, most_noise), normaliser.scale(small, most_noise)
    np.testing.assert_allclose(b.normalise(small), a.normalise(image), atol=1e-4)
    flat = np.full((40, 50), factor, np.float32)
    assert np.isfinite(normaliser.scale(flat, most_noise).normalise(flat)).all()


def test_blurred_percentiles_equal_scipy():
    image = images(1)[0]
    normaliser = Percentile(1, 99, per_image=True, blur=2.0, floor=0.0)
    normaliser.fit([image])
    expected = np.percentile(ndimage.gaussian_filter(image, 2.0, mode="nearest"), (1, 99))
    assert (normaliser.scale(image).low, normaliser.scale(image).high) == pytest.approx(
        tuple(expected), rel=1e-5
    )


def test_noise_moves_blurred_percentiles_less():
    """Why the input is blurred: the gain between low and high must not depend on the noise."""
    rng = np.random.default_rng(0)
    clean = 100 + 100 * ndimage.gaussian_filter(rng.normal(size=(128, 128)), 6) * 6
    gains = {}
    for blur in (0.0, 2.0):
        normaliser = Percentile(1, 99, per_image=True, blur=blur)
        normaliser.fit([clean])
        gains[blur] = [normaliser.scale(clean + rng.normal(0, s, clean.shape)).gain for s in (5, 60)]
    assert gains[0.0][1] / gains[0.0][0] > 2
    assert gains[2.0][1] / gains[2.0][0] < 1.2


@pytest.mark.parametrize("image", [np.full((8, 8), 7.0), np.full((8, 8), 0, np.uint16)])
def test_an_empty_image_is_not_stretched(image):
    normaliser = Percentile(1, 99, per_image=True, floor=0.1)
    normaliser.fit(images())
    normalised = normaliser.scale(image).normalise(image)
    np.testing.assert_allclose(normalised, -1, atol=1e-6)
    noisy = image + np.random.default_rng(0).normal(0, 0.01, image.shape)
    assert np.abs(normaliser.scale(noisy).normalise(noisy) + 1).max() < 0.1


def test_an_empty_field_is_not_noisier_than_what_training_saw():
    rng = np.random.default_rng(0)
    full = 100 * (1 + ndimage.gaussian_filter(rng.normal(size=(128, 128)), 5) * 9)
    noise = rng.normal(0, 10, full.shape)
    normaliser = Percentile(1, 99.8, per_image=True, blur=2.0, floor=0.0)
    normaliser.fit([full + noise])
    stretched = normaliser.scale(100 + noise).normalise(100 + noise)
    untouched = normaliser.scale(full + noise)
    assert np.std(stretched) > 2 and np.std(untouched.normalise(noise)) < 0.2
    assert np.std(normaliser.scale(100 + noise, 0.25).normalise(noise)) == pytest.approx(0.25, rel=0.03)
    assert normaliser.scale(full + noise, 0.25) == untouched
    normaliser.per_image = False
    assert normaliser.scale(100 + 9 * noise, 0.25) == normaliser.fitted


@pytest.mark.parametrize(
    "pair",
    [
        lambda: PairNormalisation(Percentile(1, 99, per_image=True, blur=1), Percentile(0, 100)),
        lambda: PairNormalisation(FixedRange(0, 255), FixedRange(0, 4095)),
    ],
)
def test_the_state_brings_everything_back(pair):
    fitted, fresh = pair(), pair()
    fitted.fit(images(), images(gain=7))
    fresh.load_state(fitted.state())
    image = images(1)[0]
    assert fresh.input.scale(image) == fitted.input.scale(image)
    assert fresh.target.scale(image) == fitted.target.scale(image)
    assert fresh.target_bounds == fitted.target_bounds and fresh.input_bounds == fitted.input_bounds


def test_bounds_are_the_extremes_of_the_normalised_targets():
    pair = PairNormalisation(FixedRange(0, 255), Percentile(5, 95))
    pair.fit(images(), images(gain=7))
    normalised = [pair.target.scale(image).normalise(image) for image in images(gain=7)]
    assert pair.target_bounds == pytest.approx(
        (min(i.min() for i in normalised), max(i.max() for i in normalised))
    )
    assert PairNormalisation(FixedRange(), FixedRange()).target_bounds == (-1, 1)


def test_outputs_are_in_target_units_where_these_are_known_and_else_in_input_units():
    known = PairNormalisation(Percentile(0, 100), Percentile(0, 100))
    known.fit(images(), images(gain=17))
    image = images(1)[0]
    assert known.output_scale(known.input.scale(image)) == known.target.fitted
    free = PairNormalisation(Percentile(0, 100, per_image=True), Percentile(0, 100, per_image=True))
    free.fit(images(), images(gain=17))
    assert free.output_scale(free.input.scale(image)) == free.input.scale(image)


@pytest.mark.parametrize(
    "make", [lambda: Percentile(99, 1), lambda: Percentile(-1, 50), lambda: FixedRange(5, 5)]
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match="normalisation"):
        make()


def test_constant_training_sets_and_missing_fits_are_refused():
    with pytest.raises(ValueError, match="constant"):
        Percentile().fit([np.ones((4, 4))])
    with pytest.raises(ValueError, match="no image"):
        Percentile().fit([])
    with pytest.raises(RuntimeError, match="not fitted"):
        Percentile().scale(np.ones((4, 4)))


def test_a_shared_scale_keeps_the_brightness_of_the_input():
    rng = np.random.default_rng(0)
    highs = [rng.gamma(2, 50 * (number + 1), (40, 40)) for number in range(3)]
    lows = [rng.poisson(high).astype(float) for high in highs]
    normalisation = PairNormalisation(Percentile(1, 99, per_image=True, floor=1e-6))
    normalisation.fit(lows, highs)
    again = PairNormalisation(Percentile(1, 99, per_image=True, floor=1e-6))
    again.load_state(json.loads(json.dumps(normalisation.state())))
    for low, high in zip(lows, highs, strict=True):
        of_low, of_high = normalisation.scales(low, high)
        assert of_low == of_high and (of_low.low, of_low.high) == pytest.approx(
            tuple(np.percentile(low, (1, 99))), rel=1e-5
        )
        # A perfect restoration comes out in the intensities of its input, whatever these are.
        restored = again.output_scale(again.input.scale(low)).restore(of_high.normalise(high))
        assert restored == pytest.approx(high, rel=1e-4, abs=1e-2)
    brightest = max(
        normalisation.scales(low, high)[1].normalise(high).max()
        for low, high in zip(lows, highs, strict=True)
    )
    assert normalisation.target_bounds[1] == pytest.approx(brightest)


def test_a_clean_image_is_matched_to_its_noisy_partner_as_a_line_is_fitted():
    rng = np.random.default_rng(0)
    high = rng.gamma(2, 50, (60, 60))
    low = rng.poisson(0.3 * high + 7).astype(float)
    scale = Percentile(1, 99, per_image=True, floor=1e-6)
    normalisation = PairNormalisation(scale, matched=True)
    normalisation.fit([low], [high])
    of_low, of_high = normalisation.scales(low, high)
    slope, offset = np.polyfit(high.ravel(), of_low.normalise(low).ravel(), 1)
    np.testing.assert_allclose(of_high.normalise(high), slope * high + offset, atol=1e-3)
    # What the low image would be without noise comes out, in its own intensities.
    restored = normalisation.output_scale(of_low).restore(of_high.normalise(high))
    assert np.sqrt(np.mean((restored - (0.3 * high + 7)) ** 2)) < 0.1 * np.std(low - (0.3 * high + 7))


def test_images_that_have_nothing_in_common_share_a_scale():
    rng = np.random.default_rng(0)
    low, high = rng.normal(10, 1, (2, 60, 60))
    scale = Scale(8.0, 12.0)
    assert matching(scale, low, high) == scale == matching(scale, low, np.full((60, 60), 3.0))


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64", "uint64", "float64"])
def test_an_offset_that_float32_cannot_hold_is_subtracted_first(dtype):
    plain = np.random.default_rng(0).poisson(500, (40, 40))
    image = (plain + 2 * 10**9).astype(dtype)
    normaliser = Percentile(per_image=True, blur=1.0)
    normaliser.fit([image])
    scale = normaliser.scale(image)
    back = scale.restore(scale.normalise(image))
    assert scale.far and back.dtype == np.float64
    np.testing.assert_allclose(back - 2e9, plain, atol=1e-3)
    np.testing.assert_allclose(scale.restore(torch.from_numpy(scale.normalise(image))).numpy(), back)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "int64", "float32", "float64"])
def test_ordinary_intensities_are_mapped_in_float32(dtype):
    image = np.random.default_rng(0).poisson(100, (40, 40)).astype(dtype)
    normaliser = Percentile(per_image=True)
    normaliser.fit([image])
    scale = normaliser.scale(image)
    assert not scale.far and scale.restore(scale.normalise(image)).dtype == np.float32
    assert without_offset(image)[1] == 0
