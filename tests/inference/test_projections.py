import csv

import numpy as np
import pytest
import tifffile

from ddpm_lightning.inference.arrays import described_array
from ddpm_lightning.inference.projections import StackProjections, projected_axis
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings, results_of
from ddpm_lightning.io.tiff import read_info
from ddpm_lightning.utils.errors import UserError
from tests.trained import a_calibration, write_checkpoint


@pytest.fixture(scope="module")
def restorer(tmp_path_factory):
    return Restorer.load(
        write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt", per_image=True), "cpu"
    )


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("YX", (), ""),
        ("CYX", (2,), ""),
        ("ZYX", (3,), "Z"),
        ("TYX", (3,), "T"),
        ("TCZYX", (2, 2, 3), "Z"),
        ("TZCYX", (2, 1, 3), "T"),
        ("IYX", (4,), "I"),
    ],
)
def test_depth_is_projected_or_else_time(axes, shape, expected):
    info = described_array(np.zeros((*shape, 16, 16)), axes, None)
    assert projected_axis(info) == expected


@pytest.mark.parametrize(("axes", "along"), [("TCZYX", 3), ("ZTCYX", 1), ("TZCYX", 2)])
def test_projections_are_those_of_each_sample(axes, along):
    samples = np.random.default_rng(0).normal(size=(4, 2, 3, 2, 16, 16)).astype(np.float32)
    info = described_array(samples[0], axes, None)
    projections = StackProjections(info, ["max", "mean", "sum"], 4)
    found: dict[str, list[np.ndarray]] = {}
    for place in info.planes():
        mine = samples[(slice(None), *place.index)]
        for number, one in enumerate(mine):
            projections.add_sample(number, one)
        restored = Restoration(mine.mean(0), mine.std(0), 4, calibration=a_calibration(std_factor=1.5))
        for name, image in projections.add(restored).items():
            found.setdefault(name, []).append(image)
    for name, project in (("max", np.max), ("mean", np.mean), ("sum", np.sum)):
        expected = project(samples.astype(np.float64), axis=along)
        shape = projections.info.shape
        of_mean = project(samples.mean(0), axis=along - 1)
        np.testing.assert_allclose(np.reshape(found[name], shape), of_mean, rtol=1e-4, atol=1e-5)
        deviation = 1.5 * expected.std(0)
        np.testing.assert_allclose(np.reshape(found[f"{name}_std"], shape), deviation, rtol=1e-4, atol=1e-5)


def test_files_hold_the_projections_of_the_samples(restorer, tmp_path):
    stack = np.random.default_rng(0).poisson(30, (2, 3, 2, 40, 33)).astype(np.uint16)
    stack[0, 1, 0] = 7  # constant
    options = {"imagej": True, "metadata": {"axes": "TZCYX", "spacing": 0.5, "finterval": 2.0}}
    tifffile.imwrite(tmp_path / "a.tif", stack, **options)
    settings = FileSettings(samples=2, projections=["max", "profile"], std=False)
    record = restore_file(restorer, tmp_path / "a.tif", tmp_path / "out", settings)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(results_of(tmp_path / "a.tif", settings)) and record["projected_axis"] == "Z"
    assert names == ["a.tif", "a_max.tif", "a_max_std.tif", "a_profile.csv"]
    expected = restorer.restore(stack, 2, "a", "TZCYX", keep_samples=True)
    info = read_info(tmp_path / "out/a_max.tif")
    assert (info.axes, info.shape, info.time_step) == ("TCYX", (2, 2, 40, 33), 2.0)
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out/a_max.tif"), expected.mean.max(1))
    deviation = expected.samples.max(2).std(0)
    np.testing.assert_allclose(
        tifffile.imread(tmp_path / "out/a_max_std.tif"), deviation, rtol=1e-3, atol=1e-4
    )
    with (tmp_path / "out/a_profile.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["t"], row["z"], row["c"]) for row in rows[:3]] == [
        ("0", "0", "0"),
        ("0", "0", "1"),
        ("0", "1", "0"),
    ]
    assert float(rows[5]["mean"]) == pytest.approx(expected.mean[0, 2, 1].mean(), rel=1e-5)
    means = expected.samples[:, 0, 2, 1].mean((1, 2))
    assert float(rows[5]["std"]) == pytest.approx(means.std(), rel=1e-3) and float(rows[2]["std"]) == 0


def test_the_projection_of_one_plane_is_the_plane(restorer, tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", np.random.default_rng(0).poisson(30, (40, 33)).astype(np.uint8))
    settings = FileSettings(samples=2, projections=["mean"], dtype="float32")
    record = restore_file(restorer, tmp_path / "a.ome.tif", tmp_path / "out", settings)
    image, mean, std, mean_std = (
        tifffile.imread(tmp_path / "out" / f"a{part}.ome.tif") for part in ("", "_mean", "_std", "_mean_std")
    )
    assert np.array_equal(image, mean) and record["projected_axis"] == ""
    np.testing.assert_allclose(std, mean_std, rtol=1e-3, atol=1e-4)


def test_unknown_projections_are_refused():
    with pytest.raises(UserError) as error:
        FileSettings.of({"projections": ["median"]})
    assert error.value.subject == "projections" and "max" in error.value.allowed
