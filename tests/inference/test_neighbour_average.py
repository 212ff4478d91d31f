import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from ddpm_lightning.inference.arrays import described_array
from ddpm_lightning.inference.neighbour_average import Neighbours, averaged_planes, weight_of_neighbour
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restored_plane import RestoredPlane
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

SIDE = 64


def neighbours(shape: tuple[int, ...], axes: str, reach: int = 2) -> Neighbours:
    return Neighbours.of(described_array(np.zeros((*shape, 16, 16)), axes, None), reach)


def planes_of(means: np.ndarray, std: float, samples: int = 8) -> list[RestoredPlane]:
    """Returns restored planes with shape (H, W) of which samples vary by so much."""
    rng = np.random.default_rng(9)
    found = []
    for number, mean in enumerate(means.astype(np.float32)):
        drawn = (mean + std * rng.normal(size=(samples, *mean.shape))).astype(np.float32)
        restored = Restoration(mean, drawn.std(axis=0), samples, samples=drawn)
        found.append(RestoredPlane(number, f"z{number}", mean, restored, False, None))
    return found


def averaged(planes: list[RestoredPlane], reach: int) -> np.ndarray:
    along = Neighbours(reach, 1, len(planes))
    return np.stack([plane.restored.mean for plane in averaged_planes(planes, along)])


def jumps(stack: np.ndarray) -> float:
    return float(np.square(np.diff(stack, axis=0), dtype=np.float64).mean())


@pytest.mark.parametrize(
    ("shape", "axes", "number", "expected"),
    [
        ((5,), "ZYX", 2, [0, 1, 3, 4]),
        ((5,), "TYX", 0, [1, 2]),
        ((2, 4), "CZYX", 4, [5, 6]),  # not the other channel
        ((3, 2), "TCYX", 3, [1, 5]),
        ((2, 3, 2), "TZCYX", 7, [9, 11]),  # along depth, in the same channel and frame
        ((4,), "CYX", 1, []),
        ((), "YX", 0, []),
    ],
)
def test_neighbours_are_along_one_axis_of_a_channel(shape, axes, number, expected):
    assert neighbours(shape, axes).around(number) == expected


def test_planes_that_agree_are_averaged_with_equal_weights():
    error = gaussian_filter(np.random.default_rng(0).normal(size=(7, SIDE, SIDE)), (0, 1, 1))
    means = 100 + 0.25 * error / error.std()
    found = averaged(planes_of(means, std=1.0), reach=3)
    np.testing.assert_allclose(found[3], means.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found[0], means[:4].mean(axis=0), rtol=1e-5)
    assert jumps(found) < 0.1 * jumps(means)


def test_what_changes_is_kept():
    means = np.full((5, SIDE, SIDE), 100.0)
    means[2, 20:23, 30:33] += 20  # a spot in one frame
    means[3:, :, 48:] += 15  # an edge that stays
    found = averaged(planes_of(means, std=1.0), reach=2)
    assert found[2, 21, 31] > 119.5 and found[1, 21, 31] < 100.5
    assert np.abs(found[2, :, 56:] - 100).max() < 0.1 and np.abs(found[3, :, 56:] - 115).max() < 0.1


def test_the_weight_of_a_neighbour_falls_with_the_change():
    variance = np.full((SIDE, SIDE), 2.0)
    weights = [
        float(weight_of_neighbour(np.full((SIDE, SIDE), step), variance).mean()) for step in (0, 0.5, 1, 2, 8)
    ]
    # 0.4 of the variance is due to noise: 0.8, and v / (v + 4 (d² - v)) beyond.
    expected = [1, 1, 0.8 / (0.8 + 4 * 0.2), 0.8 / (0.8 + 4 * 3.2), 0.8 / (0.8 + 4 * 63.2)]
    assert weights == pytest.approx(expected, rel=1e-6)
    assert not weight_of_neighbour(np.ones((SIDE, SIDE)), np.zeros((SIDE, SIDE))).any()


def test_samples_are_averaged_and_vary_as_before():
    planes, given = planes_of(np.full((5, SIDE, SIDE), 100.0), std=1.0), []
    along = Neighbours(2, 1, 5)
    kept = list(averaged_planes(planes, along, True, lambda number, pixels: given.append((number, pixels))))
    assert [number for number, _ in given] == list(range(8)) * 5
    for plane in kept:
        restored = plane.restored
        assert restored.samples.std(axis=0).mean() == pytest.approx(planes[2].restored.std.mean(), rel=0.03)
        np.testing.assert_array_equal(restored.std, planes[plane.number].restored.std)
    np.testing.assert_array_equal(given[8][1], kept[1].restored.samples[0])
    assert next(averaged_planes(planes, along)).restored.samples is None


def test_constant_planes_are_neither_averaged_nor_neighbours():
    planes = planes_of(np.full((3, SIDE, SIDE), 100.0), std=5.0)
    flat = np.full((SIDE, SIDE), 101.0, np.float32)
    zero = np.zeros_like(flat)
    planes[1] = RestoredPlane(
        1, "z1", flat, Restoration(flat, zero, 8, samples=np.stack([flat] * 8)), True, None
    )
    found = averaged(planes, reach=1)
    assert (found[1] == 101).all() and (found[0] == 100).all()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt", per_image=True)


def test_files_are_averaged_on_request(checkpoint, tmp_path):
    stack = np.random.default_rng(0).poisson(30, (4, 40, 33)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TYX"})
    restorer = Restorer.load(checkpoint, "cpu", average_neighbours=1)
    settings = FileSettings(samples=2, single=True, projections=["mean"])
    record = restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", settings)
    assert record["stack"]["average_neighbours"] == 1
    found = restorer.restore(stack, 2, "a", "TYX", keep_samples=True)
    single = np.stack([tifffile.imread(tmp_path / f"out/a_sample_0{number}.tif") for number in (1, 2)])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/a.tif"), found.mean)
    np.testing.assert_array_equal(single, found.samples)
    deviation = single.astype(np.float64).mean(1).std(0)
    np.testing.assert_allclose(
        tifffile.imread(tmp_path / "out/a_mean_std.tif"), deviation, rtol=1e-3, atol=1e-4
    )
    by_itself = Restorer.load(checkpoint, "cpu").restore(stack, 2, "a", "TYX")
    assert jumps(found.mean) < jumps(by_itself.mean)
    plane = Restorer.load(checkpoint, "cpu").restore(stack[0], 2, "a")
    assert np.array_equal(restorer.restore(stack[0], 2, "a").mean, plane.mean)


def test_averages_need_samples(checkpoint):
    stack = np.random.default_rng(0).poisson(30, (2, 40, 33))
    restorer = Restorer.load(checkpoint, "cpu", average_neighbours=1)
    for settings in ({"samples": 1}, {"samples": 2, "entropy": True}):
        with pytest.raises(UserError) as error:
            restorer.restore(stack, **settings)
        assert error.value.subject == "average_neighbours=1"
    with pytest.raises(UserError) as error:
        Restorer.load(checkpoint, "cpu", average_neighbours=1, tolerance=0.1)
    assert error.value.subject == "average_neighbours=1"
