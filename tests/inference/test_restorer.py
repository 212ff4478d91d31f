import numpy as np
import pytest
import torch

from ddpm_lightning.errors import UserError
from ddpm_lightning.inference.restorer import Restorer, choose_device
from tests.trained import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.fixture
def plane():
    return np.random.default_rng(0).poisson(30, (37, 50)).astype(np.uint16)


def test_mean_and_std_are_those_of_the_draws_in_intensities(checkpoint, plane):
    restorer = Restorer.load(checkpoint, "cpu")
    restored, draws = restorer.restore(plane, 6, "a"), np.stack(list(restorer.draws(plane, 6, "a")))
    np.testing.assert_allclose(restored.mean, draws.mean(0), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(restored.std, draws.std(0), rtol=1e-3, atol=1e-3)
    assert restored.mean.shape == restored.std.shape == plane.shape and restored.mean.dtype == np.float32
    assert restored.draws == 6 and restored.std.mean() > 0.1
    assert -1e-3 <= draws.min() and draws.max() <= 125.001  # bounds -1 and 1.5 of a scale from 0 to 100


def test_names_seeds_and_draws_key_the_result(checkpoint, plane):
    restorer = Restorer.load(checkpoint, "cpu")
    first = restorer.restore(plane, 2, "a").mean
    assert np.array_equal(first, restorer.restore(plane, 2, "a").mean)
    assert not np.array_equal(first, restorer.restore(plane, 2, "b").mean)
    assert not np.array_equal(first, Restorer.load(checkpoint, "cpu", seed=1).restore(plane, 2, "a").mean)


def test_tiles_hardly_matter(checkpoint):
    plane = np.random.default_rng(0).poisson(30, (150, 130))
    whole = Restorer.load(checkpoint, "cpu", tile=None).restore(plane, 2, "a")
    tiled = Restorer.load(checkpoint, "cpu", tile=64, overlap=16).restore(plane, 2, "a")
    assert np.abs(tiled.mean - whole.mean).mean() < 0.05 * whole.mean.std()


def test_bfloat16_is_close(checkpoint, plane):
    exact = Restorer.load(checkpoint, "cpu").restore(plane, 3, "a").mean
    rounded = Restorer.load(checkpoint, "cpu", bfloat16=True).restore(plane, 3, "a").mean
    assert 0 < np.abs(rounded - exact).mean() < 0.05 * exact.std()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros(40), "1 dimensions"),
        (np.zeros((3, 40, 40)), "constant in every plane"),
        (np.ones((40, 15)), "40 x 15"),
        (np.full((40, 40), np.nan), "NaN"),
        (np.full((40, 40), 7), "constant: every pixel is 7"),
    ],
)
def test_bad_planes_are_answered(checkpoint, bad, words):
    with pytest.raises(UserError, match=words):
        Restorer.load(checkpoint, "cpu").restore(bad)


def test_bad_settings_are_answered(checkpoint, plane):
    with pytest.raises(UserError, match="draws: is 0"):
        Restorer.load(checkpoint, "cpu").restore(plane, 0)
    with pytest.raises(UserError, match="device: is 'tpu'"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device=auto"):
            choose_device("cuda:0")


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "CYX", None])
def test_planes_of_a_stack_are_restored_one_by_one(checkpoint, axes):
    restorer = Restorer.load(checkpoint, "cpu")
    stack = np.random.default_rng(0).poisson(30, (3, 37, 50))
    stack[1] = 5
    restored = restorer.restore(stack, 2, "a", axes, 0.1, entropy=True, samples=True)
    letter = (axes or "ZYX")[0].lower()
    alone = restorer.restore(stack[2], 2, f"a_{letter}2", samples=True, entropy=True)
    assert np.array_equal(restored.mean[2], alone.mean) and np.array_equal(restored.std[2], alone.std)
    assert np.array_equal(restored.samples[:, 2], alone.samples) and np.array_equal(
        restored.entropy[2], alone.entropy
    )
    assert restored.samples.shape == (2, 3, 37, 50) and restored.mean.shape == stack.shape
    assert restored.blank == (f"{letter}1",) and (restored.mean[1] == 5).all() and not restored.std[1].any()
    assert restored.pixel_size == (0.1, 0.1) and restored.axes == (axes or "ZYX") and restored.warnings


def test_five_dimensions_and_their_names(checkpoint):
    restorer = Restorer.load(checkpoint, "cpu")
    image = np.random.default_rng(0).poisson(30, (1, 2, 2, 32, 32))
    restored = restorer.restore(image, 1, "a", "TCZYX")
    assert restored.mean.shape == image.shape
    assert np.array_equal(restored.mean[0, 1, 0], restorer.restore(image[0, 1, 0], 1, "a_c1_z0").mean)


@pytest.mark.parametrize("axes", ["YXZ", "YX", "TCZYX"])
def test_axes_that_do_not_fit_are_answered(checkpoint, axes):
    with pytest.raises(UserError, match=f"axes: is '{axes}' for an array of 3 dimensions"):
        Restorer.load(checkpoint, "cpu").restore(np.zeros((2, 32, 32)), axes=axes)


def test_a_margin_is_a_reflection_that_is_cut_off_again(checkpoint, plane):
    with_margin = Restorer.load(checkpoint, "cpu", margin=16).restore(plane, 2, "a")
    by_hand = Restorer.load(checkpoint, "cpu", margin=0).restore(np.pad(plane, 16, mode="reflect"), 2, "a")
    np.testing.assert_array_equal(with_margin.mean, by_hand.mean[16:-16, 16:-16])
    np.testing.assert_array_equal(with_margin.std, by_hand.std[16:-16, 16:-16])


def test_the_example_of_the_documentation_runs(checkpoint, plane, tmp_path, monkeypatch):
    """The lines with >>> at the head of the module, with a small image for the noisy one."""
    from ddpm_lightning.inference import restorer as module

    (tmp_path / "runs/demo/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/demo/checkpoints/best.ckpt").write_bytes(checkpoint.read_bytes())
    monkeypatch.chdir(tmp_path)
    lines = [line.split(">>> ")[1].split("  #")[0] for line in module.__doc__.splitlines() if ">>> " in line]
    names = {"Restorer": Restorer, "noisy": plane, "stack": np.stack([plane, plane])[None, None]}
    for line in lines:
        exec(line, names)
    assert names["restored"].mean.shape == plane.shape and names["volume"].mean.shape == (1, 1, 2, 37, 50)


def test_single_draws_of_a_stack_need_a_known_number(checkpoint, plane):
    restorer = Restorer.load(checkpoint, "cpu", tolerance=0.5)
    with pytest.raises(UserError, match="equally many draws of all 2 planes; tolerance=0.5 ends them early"):
        restorer.restore(np.stack([plane] * 2), 9, samples=True)
    alone = restorer.restore(plane, 9, samples=True)
    assert len(alone.samples) == alone.draws < 9
    assert restorer.restore(np.stack([plane] * 2), 9).mean.shape == (2, *plane.shape)
