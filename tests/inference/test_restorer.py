import numpy as np
import pytest
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.inference.restorer import Restorer, choose_device
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.fixture
def plane():
    return np.random.default_rng(0).poisson(30, (37, 50)).astype(np.uint16)


def test_mean_and_std_are_those_of_the_samples_in_intensities(checkpoint, plane):
    restorer = Restorer.load(checkpoint, "cpu")
    restored, samples = restorer.restore(plane, 6, "a"), np.stack(list(restorer.samples(plane, 6, "a")))
    np.testing.assert_allclose(restored.mean, samples.mean(0), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(restored.std, samples.std(0), rtol=1e-3, atol=1e-3)
    assert restored.mean.shape == restored.std.shape == plane.shape and restored.mean.dtype == np.float32
    assert restored.sample_count == 6 and restored.std.mean() > 0.1
    assert -1e-3 <= samples.min() and samples.max() <= 125.001  # bounds -1 and 1.5 of a scale from 0 to 100


def test_names_seeds_and_samples_key_the_result(checkpoint, plane):
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


@pytest.mark.parametrize("other", [{"batch": 1}, {"batch": 3, "workers": 3}])
def test_batch_and_workers_do_not_change_a_tiled_plane(checkpoint, other):
    plane = np.random.default_rng(0).poisson(30, (90, 70))
    expected, found = (
        Restorer.load(checkpoint, "cpu", tile=64, overlap=8, **settings).restore(plane, 4, "a")
        for settings in ({"workers": 1}, other)
    )
    assert np.array_equal(found.mean, expected.mean) and np.array_equal(found.std, expected.std)


def test_bfloat16_is_close(checkpoint, plane):
    exact = Restorer.load(checkpoint, "cpu").restore(plane, 3, "a").mean
    rounded = Restorer.load(checkpoint, "cpu", bfloat16=True).restore(plane, 3, "a").mean
    assert 0 < np.abs(rounded - exact).mean() < 0.05 * exact.std()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros(40), "1 dimensions"),
        (np.ones((40, 15)), "40 x 15"),
        (np.full((40, 40), np.nan), "NaN"),
        (np.full((40, 40, 3), 7), "colour"),
    ],
)
def test_bad_planes_are_refused(checkpoint, bad, words):
    with pytest.raises(UserError, match=words):
        Restorer.load(checkpoint, "cpu").restore(bad)


def test_bad_settings_are_refused(checkpoint, plane):
    with pytest.raises(UserError, match="samples: is 0"):
        Restorer.load(checkpoint, "cpu").restore(plane, 0)
    with pytest.raises(UserError, match="device: is 'tpu'"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device=auto"):
            choose_device("cuda:0")


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "CYX", None])
def test_planes_of_a_stack_are_restored_one_by_one(checkpoint, axes):
    restorer = Restorer.load(checkpoint, "cpu", noise="independent")
    stack = np.random.default_rng(0).poisson(30, (3, 37, 50))
    stack[1] = 5
    restored = restorer.restore(stack, 2, "a", axes, 0.1, entropy=True, keep_samples=True)
    letter = (axes or "ZYX")[0].lower()
    alone = restorer.restore(stack[2], 2, f"a_{letter}2", keep_samples=True, entropy=True)
    assert np.array_equal(restored.mean[2], alone.mean) and np.array_equal(restored.std[2], alone.std)
    assert np.array_equal(restored.samples[:, 2], alone.samples) and np.array_equal(
        restored.entropy[2], alone.entropy
    )
    assert restored.samples.shape == (2, 3, 37, 50) and restored.mean.shape == stack.shape
    assert restored.blank == (f"{letter}1",) and (restored.mean[1] == 5).all() and not restored.std[1].any()
    assert restored.pixel_size == (0.1, 0.1) and restored.axes == (axes or "ZYX") and restored.warnings


def test_five_dimensions_and_their_names(checkpoint):
    restorer = Restorer.load(checkpoint, "cpu", noise="independent")
    image = np.random.default_rng(0).poisson(30, (1, 2, 2, 32, 32))
    restored = restorer.restore(image, 1, "a", "TCZYX")
    assert restored.mean.shape == image.shape
    assert np.array_equal(restored.mean[0, 1, 0], restorer.restore(image[0, 1, 0], 1, "a_c1_z0").mean)


@pytest.mark.parametrize("axes", ["YXZ", "YX", "TCZYX"])
def test_axes_that_do_not_fit_are_refused(checkpoint, axes):
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


def test_single_samples_of_a_stack_need_a_known_number(checkpoint, plane):
    restorer = Restorer.load(checkpoint, "cpu", tolerance=0.5)
    with pytest.raises(UserError, match="all 2 planes; tolerance=0.5"):
        restorer.restore(np.stack([plane] * 2), 9, keep_samples=True)
    alone = restorer.restore(plane, 9, keep_samples=True)
    assert len(alone.samples) == alone.sample_count < 9
    assert restorer.restore(np.stack([plane] * 2), 9).mean.shape == (2, *plane.shape)


def colours(image):
    return np.stack([image] * 3, axis=-1)


@pytest.mark.parametrize(
    "form",
    [
        lambda image: image.astype(object),
        lambda image: image.astype(">u2"),
        lambda image: image.astype(np.float16),
        lambda image: image.astype(np.longdouble),
        lambda image: image.tolist(),
        lambda image: np.ma.array(image, mask=False),
        lambda image: np.asfortranarray(image),
        lambda image: np.repeat(image, 2, axis=1)[:, ::2],
        lambda image: torch.from_numpy(image.astype(np.int32)),
        lambda image: np.lib.stride_tricks.as_strided(image, image.shape, image.strides, writeable=False),
        lambda image: memoryview(image),
    ],
)
def test_any_array_of_numbers_is_restored(checkpoint, plane, form):
    restorer = Restorer.load(checkpoint, "cpu")
    restored = restorer.restore(form(plane), 1, "a")
    np.testing.assert_array_equal(restored.mean, restorer.restore(plane, 1, "a").mean)
    assert restored.mean.dtype == np.float32


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda image: image * 1j, "complex"),
        (lambda image: image > 40, "mask"),
        (lambda image: np.ma.array(image, mask=image > 40), "masked"),
        (lambda image: np.where(image > 40, None, image), "not contain numbers"),
        (lambda image: image.astype(str), "not contain numbers"),
        (lambda image: image.astype("datetime64[s]"), "not contain numbers"),
        (lambda image: [image, image[:-1]], "cannot be converted"),
        (lambda image: torch.zeros(40, 40, requires_grad=True), "cannot be converted"),
        (lambda image: None, "not contain numbers"),
        (colours, "colour"),
        (lambda image: np.stack([image] * 4, axis=-1), "colour"),
        (lambda image: np.stack([colours(image)] * 5), "colour"),
        (lambda image: image[:0], "empty"),
        (lambda image: np.zeros((0, 40, 40)), "empty"),
        (lambda image: image.astype(float) * 1e30, "extremely large"),
        (lambda image: np.where(image > 40, np.inf, image), "infinite"),
        (lambda image: image[None, None, None, None], "dimensions"),
    ],
)
def test_what_is_no_image_is_refused(checkpoint, plane, form, words):
    with pytest.raises(UserError, match=words):
        Restorer.load(checkpoint, "cpu").restore(form(plane), 1)


@pytest.mark.parametrize(
    "size", [(0.1, 0.2), [0.1, 0.2], np.array([0.1, 0.2]), (np.float32(0.1), "0.2"), np.array([[0.1, 0.2]])]
)
def test_forms_of_two_pixel_sizes(size, checkpoint, plane):
    if isinstance(size[-1], str):
        with pytest.raises(UserError, match="pixel_size"):
            Restorer.load(checkpoint, "cpu").restore(plane, 1, pixel_size=size)
    else:
        restored = Restorer.load(checkpoint, "cpu").restore(plane, 1, pixel_size=size)
        assert restored.pixel_size == (0.1, 0.2) and type(restored.pixel_size[0]) is float


@pytest.mark.parametrize(
    "size", [0.1, np.float64(0.1), np.array(0.1), [0.1], torch.tensor(0.1, dtype=torch.float64)]
)
def test_forms_of_one_pixel_size(size, checkpoint, plane):
    assert Restorer.load(checkpoint, "cpu").restore(plane, 1, pixel_size=size).pixel_size == (0.1, 0.1)


@pytest.mark.parametrize(
    "size",
    [0, -0.1, (0.1, -0.1), float("nan"), (0.1, np.inf), "0.1", True, [], (1, 1, 1), {"x": 1}, 1j, "µm"],
)
def test_impossible_pixel_sizes_are_refused(size, checkpoint, plane):
    with pytest.raises(UserError, match="pixel_size"):
        Restorer.load(checkpoint, "cpu").restore(plane, 1, pixel_size=size)


@pytest.mark.parametrize("shape", [(40, 40), (1, 40, 40), (2, 40, 40)])
def test_constant_planes_are_returned_as_they_are(checkpoint, shape):
    restored = Restorer.load(checkpoint, "cpu").restore(np.full(shape, 7), 2)
    assert restored.mean.shape == shape and (restored.mean == 7).all() and not restored.std.any()
    planes = int(np.prod(shape[:-2]))
    assert len(restored.blank) == planes
    assert f"{planes} of {planes} plane" in restored.warnings[-1] and "constant" in restored.warnings[-1]
    with pytest.raises(UserError, match="constant: every pixel is 7"):
        next(Restorer.load(checkpoint, "cpu").samples(np.full((40, 40), 7)))


def one_pass(folder):
    """A deterministic method: a flow without realism is its mean alone."""
    model = ["model=residual_flow_small", "model.network.base=8", "model.sampler.realism=0"]
    model += ["model.regression.network.base=8", "model.regression.network.multipliers=[1,2]"]
    return load(write_checkpoint(folder / "flow.ckpt", *model), preset="stored")


@pytest.mark.parametrize("kind", ["one sample", "deterministic", "stack", "stack with a constant plane"])
def test_a_single_sample_has_no_standard_deviation(checkpoint, plane, tmp_path, kind):
    restorer = Restorer(one_pass(tmp_path)) if kind == "deterministic" else Restorer.load(checkpoint)
    image = plane if "stack" not in kind else np.stack([plane, plane[::-1]])
    if "constant" in kind:
        image = np.concatenate([np.full((1, *plane.shape), 7), image])
    restored = restorer.restore(image, None if kind == "deterministic" else 1, entropy=True)
    assert restored.sample_count == 1 and restored.mean.shape == image.shape
    assert restored.std is None and restored.entropy is None


def test_samples_that_a_tolerance_ends_are_several(checkpoint, plane):
    restored = Restorer.load(checkpoint, tolerance=0.9).restore(plane, 8)
    assert 1 < restored.sample_count < 8 and restored.std.shape == plane.shape
