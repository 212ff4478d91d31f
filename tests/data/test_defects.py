import numpy as np
import pytest
from scipy import ndimage

from ddpm_lightning.data.defects import repaired

SIDE = 256


@pytest.fixture(scope="module")
def clean():
    """Smooth blobs on an offset of 100, with photon noise."""
    rng = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(rng.random((SIDE, SIDE)), 12, mode="wrap")
    blobs = (blobs - blobs.min()) / np.ptp(blobs)
    return rng.poisson(100 + 800 * blobs).astype(np.uint16)


def spots(rng, sigma, peak, background, count=40):
    """Point sources of different brightness between pixels, with photon noise."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE), float(background))
    for _ in range(count):
        cy, cx = rng.uniform(8, SIDE - 8, 2)
        height = peak * rng.uniform(0.1, 1)
        image += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    return rng.poisson(image).astype(np.uint16)


def scattered(count):
    """Places that do not touch each other or the border."""
    rng = np.random.default_rng(count)
    grid = rng.choice(30 * 30, count, replace=False)
    places = np.zeros((SIDE, SIDE), bool)
    places[8 + 8 * (grid // 30) + rng.integers(4), 8 + 8 * (grid % 30)] = True
    return places


def replaced_places(image):
    result, count = repaired(image)
    assert result.dtype == image.dtype and count >= (result != image).sum()
    return result != image


def test_a_sound_image_is_returned_itself(clean):
    result, count = repaired(clean)
    assert result is clean and count == 0


@pytest.mark.parametrize("count", [3, 30, 65])
@pytest.mark.parametrize("value", [3000, 20000, 65535])
def test_hot_pixels_are_replaced_by_their_surroundings_and_nothing_else_is(clean, count, value):
    places = scattered(count)
    image = np.where(places, value, clean).astype(np.uint16)
    result, number = repaired(image)
    assert number == count and np.array_equal(result != image, places)
    for y, x in np.argwhere(places):
        around = clean[y - 1 : y + 2, x - 1 : x + 2].astype(float)
        around[1, 1] = np.nan
        assert abs(result[y, x] - np.nanmedian(around)) <= 0.5


@pytest.mark.parametrize("scale", [1, 1e-4, 3e4])
@pytest.mark.parametrize("offset", [0, -5000, 2e9])
def test_units_do_not_matter(clean, scale, offset):
    places = scattered(20)
    image = np.where(places, 20000.0, clean) * scale + offset * scale
    result, number = repaired(image)
    assert number == 20 and np.array_equal(result != image, places)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32, np.int64, np.float32, ">u2", ">f4"])
def test_types_are_kept(clean, dtype):
    image = np.where(scattered(5), 30000, clean).astype(dtype)
    result, number = repaired(image)
    assert number == 5 and result.dtype == image.dtype


def test_dead_pixels_are_replaced(clean):
    places = scattered(30) & (clean > 200)
    image = np.where(places, 0, clean).astype(np.uint16)
    assert np.array_equal(replaced_places(image), places) and places.sum() > 20


@pytest.mark.parametrize("value", [0, 3000, 65535])
@pytest.mark.parametrize(
    "part", [np.s_[:24, 77], np.s_[100:, 77], np.s_[:200, 9], np.s_[50, 220:], np.s_[50, :99]]
)
def test_lines_that_are_stuck_up_to_the_border_are_replaced(clean, part, value):
    image = clean.copy()
    image[part] = value
    assert np.array_equal(replaced_places(image), image != clean)


def test_drawn_lines_and_padding_are_kept(clean):
    bar, wedge = clean.copy(), clean.copy()
    bar[220, 150:200] = 65535
    for row in range(6):
        wedge[row, : 150 - 25 * row] = 0
    assert repaired(bar)[0] is bar and repaired(wedge)[0] is wedge


@pytest.mark.parametrize("value", [0, 3000, 65535])
@pytest.mark.parametrize(
    "line", [np.s_[0], np.s_[100], np.s_[-1], np.s_[:, 77], np.s_[60:62], np.s_[:, 90:92]]
)
def test_dead_and_stuck_rows_and_columns_are_replaced(clean, line, value):
    image = clean.copy()
    image[line] = value
    assert np.array_equal(replaced_places(image), image != clean)


def test_a_dead_row_and_column_with_hot_pixels(clean):
    image = np.where(scattered(20), 50000, clean).astype(np.uint16)
    image[31], image[:, 200] = 0, 0
    assert (replaced_places(image) == (image != clean)).all()


@pytest.mark.parametrize(
    "shape",
    [
        [(0, 0), (0, 1)],
        [(0, 0), (1, 1)],
        [(0, 0), (0, 1), (1, 0)],
        [(0, 0), (0, 1), (0, 2)],
        [(0, 0), (0, 1), (1, 0), (1, 1)],
        [(k, k // 2) for k in range(7)],
        [(0, k) for k in range(9)],
    ],
)
@pytest.mark.parametrize("equal", [True, False])
def test_clusters_and_tracks_are_replaced(clean, shape, equal):
    rng, image = np.random.default_rng(1), clean.copy()
    for top, left in zip(range(20, 230, 20), rng.permutation(np.arange(20, 230, 20)), strict=True):
        for y, x in shape:
            image[top + y, left + x] = 40000 if equal else rng.integers(8000, 60000)
    assert np.array_equal(replaced_places(image), image != clean)


@pytest.mark.parametrize("sigma", [0.8, 1.0, 1.5])
@pytest.mark.parametrize("peak", [20, 300, 30000])
@pytest.mark.parametrize("background", [0.02, 5, 100])
def test_point_sources_are_kept(sigma, peak, background):
    image = spots(np.random.default_rng(4), sigma, peak, background)
    assert repaired(image)[1] == 0


@pytest.mark.parametrize("sigma", [0.6, 0.7, 0.8])
@pytest.mark.parametrize("background", [0.02, 5, 100])
def test_point_sources_between_four_pixels_are_kept(sigma, background):
    places, around = np.zeros((SIDE, SIDE)), np.arange(-4, 4) + 0.5
    light = 30000 * np.exp(-(around[:, None] ** 2 + around**2) / (2 * sigma**2))
    for top, left in np.ndindex(10, 10):
        places[20 + 20 * top : 28 + 20 * top, 20 + 20 * left : 28 + 20 * left] = light
    image = np.random.default_rng(8).poisson(background + places).astype(np.uint16)
    assert repaired(image)[1] == 0


def test_hot_pixels_among_point_sources_are_replaced():
    image = spots(np.random.default_rng(5), 1.5, 3000, 100)
    places = scattered(30)
    hot = np.where(places, 60000, image).astype(np.uint16)
    assert np.array_equal(replaced_places(hot), places)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.5, 2, 20, 1000])
def test_photon_noise_is_kept(rate):
    rng = np.random.default_rng(6)
    assert (
        sum(
            repaired(rng.poisson(rate, (SIDE, SIDE)).astype(np.uint8 if rate < 50 else int))[1]
            for _ in range(3)
        )
        == 0
    )


def other_images():
    rng = np.random.default_rng(7)
    shape, blob = (SIDE, SIDE), np.hypot(*(np.mgrid[:SIDE, :SIDE] - 128)) < 60
    edges = np.where(blob, 2000, 100)
    return {
        "normal": rng.normal(100, 10, shape).astype(np.float32),
        "exponential": rng.exponential(100, shape),
        "Student's t": 100 + 10 * rng.standard_t(5, shape),
        "photomultiplier": rng.gamma(np.maximum(2 * rng.poisson(0.3, shape), 1e-9), 15)
        .clip(0, 255)
        .astype(np.uint8),
        "saturated": rng.poisson(edges).clip(0, 1023).astype(np.uint16),
        "edges": rng.poisson(edges),
        "edges without noise": edges,
        "mask": blob.astype(np.uint8) * 255,
        "stripes": rng.poisson(np.where(np.arange(SIDE) % 2, 1000, 100), shape),
        "flickering rows": rng.poisson(edges * rng.normal(1, 0.1, (SIDE, 1)).clip(0.5)),
        "padding": np.pad(rng.poisson(100, (SIDE - 6, SIDE - 6)), 3),
        "constant": np.full(shape, 7),
        "one photon": np.where(np.arange(SIDE**2).reshape(shape) == 30000, 4000, 0),
        "small": rng.poisson(50, (16, 16)),
        "tiny": rng.poisson(50, (5, 9)),
    }


@pytest.mark.parametrize("name", other_images())
def test_images_without_defects_are_kept(name):
    image = other_images()[name]
    assert repaired(image)[0] is image


def test_writing_is_kept(clean):
    letters = np.zeros((7, 19), bool)
    letters[:, [0, 4]] = letters[[0, 6], 1:4] = True  # 0
    letters[6, 7] = True  # .
    letters[[0, 3, 6], 10:14] = letters[:3, 10] = letters[4:6, 14] = True  # 5
    letters[2:, 17], letters[0, 17] = True, True  # i
    image = clean.copy()
    image[200:207, 150:169][letters] = 4095
    image[215:218, 150:200] = 4095
    assert repaired(image)[0] is image


@pytest.mark.parametrize("name", ["fmd", "w2s-widefield", "sted-confocal-pairs", "bacteria-16bit"])
def test_real_images_are_kept(shared, name):
    import tifffile

    files = sorted((shared / "data" / name / "test" / "low").glob("*.tif"))[:2]
    counts = {file.name: repaired(tifffile.imread(file))[1] for file in files}
    assert files and not any(counts.values())


def test_repairing_twice_changes_nothing(clean):
    once, _ = repaired(np.where(scattered(65), 20000, clean).astype(np.uint16))
    assert repaired(once)[0] is once


def test_hot_and_dead_pixels_together(clean):
    hot, dead = scattered(65), scattered(30) & (clean > 200)
    image = np.where(hot, 65535, np.where(dead, 0, clean)).astype(np.uint16)
    assert np.array_equal(replaced_places(image), hot | dead)
