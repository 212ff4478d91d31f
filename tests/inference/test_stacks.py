"""What the planes of a stack share: closed forms, and what becomes of flicker."""

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from ddpm_lightning.data.normalise import Scale
from ddpm_lightning.diffusion.randomness import KeyedNoise, Mixture
from ddpm_lightning.inference.arrays import described_array
from ddpm_lightning.inference.key_planes import KeyPlanes, correlation, details_of
from ddpm_lightning.inference.restore_folder import restore_folder
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.stack_scale import common_scale, followed_scales, scale_of_plane
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def checkpoint(folder):
    return write_checkpoint(folder / "image.ckpt", per_image=True)


def structure(planes: int, seed: int = 0) -> np.ndarray:
    """Returns smooth structure with shape (planes, 64, 64), independent in each plane, from 0 to about 100."""
    fields = gaussian_filter(np.random.default_rng(seed).normal(size=(planes, 64, 64)), (0, 2.5, 2.5))
    return np.clip(fields / fields.std() * 25 + 50, 0, None)


def recorded(stack: np.ndarray, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).poisson(stack).astype(np.float32)


def inputs_of(restorer: Restorer, stack: np.ndarray, axes: str | None = None):
    return restorer.stack_inputs(
        stack.reshape(-1, *stack.shape[-2:]).__getitem__, described_array(stack, axes, None), "a"
    )


# The scale of a stack


def test_dark_planes_do_not_change_the_scale():
    bright = [Scale(10, 110), Scale(11, 111), Scale(9, 113)]
    dark = [Scale(8, 10), Scale(7, 9.5)] * 10
    assert common_scale(bright) == Scale(10, 114)
    found = common_scale(dark + bright + dark)
    assert 9 <= found.low <= 11 and 100 <= found.high - found.low <= 104


def test_a_single_bright_plane_does_not_change_the_scale():
    assert common_scale([Scale(0, 100)] * 11 + [Scale(0, 1000)]) == Scale(0, 100)


def test_most_planes_are_within_the_scale():
    assert common_scale([Scale(0, high) for high in range(91, 101)]) == Scale(0, 99)


def test_equal_planes_share_their_scale():
    assert common_scale([Scale(3, 7)] * 5) == Scale(3, 7)


def test_slow_changes_are_followed_and_single_planes_are_not():
    decay = np.exp(-np.arange(100) / 60)
    scales: list[Scale | None] = [Scale(10, 10 + 100 * share) for share in decay]
    scales[50], scales[30] = Scale(10, 500), None
    found = np.array([scale.high - scale.low for scale in followed_scales(scales)])
    assert np.abs(found / (100 * decay) - 1)[10:-10].max() < 0.05


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        (Scale(0, 150), False),
        (Scale(-20, 60), False),
        (Scale(0, 400), True),
        (Scale(1e9, 1e9 + 1), True),
        (Scale(-150, 0), True),
    ],
)
def test_planes_far_from_their_stack_keep_their_own_scale(own, kept):
    shared = Scale(0, 100)
    assert scale_of_plane(shared, own) is (own if kept else shared)


def test_a_stack_with_dark_ends_has_the_scale_of_its_middle(checkpoint):
    light = np.array([0.01, 0.02, 0.05, 1, 1, 1, 0.05, 0.02, 0.01])[:, None, None]
    stack = recorded(structure(9) * light)
    together, alone = (
        [plane.scale for plane in inputs_of(Restorer.load(checkpoint, scale=how), stack).planes]
        for how in ("stack", "plane")
    )
    assert len(set(together)) == 1 and alone == [None] * 9
    own = [Restorer.load(checkpoint).input_scale(plane) for plane in stack]
    assert together[0].gain == pytest.approx(own[4].gain, rel=0.15) and own[0].gain < together[0].gain / 3


def test_channels_have_scales_of_their_own(checkpoint):
    stack = recorded(np.stack([structure(3), 10 * structure(3)]))
    inputs = inputs_of(Restorer.load(checkpoint), stack, "CZYX")
    scales = [plane.scale for plane in inputs.planes]
    assert len(set(scales[:3])) == len(set(scales[3:])) == 1 and scales[3].gain > 5 * scales[0].gain
    assert inputs.record["range"] == [
        pytest.approx([scales[at].low, scales[at].high], rel=1e-5) for at in (0, 3)
    ]


def test_a_scale_of_the_training_set_is_kept(folder):
    restorer = Restorer.load(write_checkpoint(folder / "dataset.ckpt"))
    inputs = inputs_of(restorer, recorded(structure(3)))
    assert {plane.scale for plane in inputs.planes} == {None} and inputs.record["scale"] == "training set"


# Noise along a stack


def test_filtered_white_noise_has_no_visible_details():
    details = details_of(np.random.default_rng(0).normal(size=(256, 256)))
    assert abs(details.variance / details.total) < 0.1 and not details.visible


@pytest.mark.parametrize("similarity", [0.0, 0.3, 0.8, 1.0])
def test_correlation_is_that_without_noise(similarity):
    first, second = gaussian_filter(np.random.default_rng(0).normal(size=(2, 512, 512)), (0, 2, 2))
    mixed = similarity * first + np.sqrt(1 - similarity**2) * second
    noise = np.random.default_rng(1).normal(0, first.std(), (2, 512, 512))
    found = correlation(details_of(first + noise[0]), details_of(mixed + noise[1]))
    assert found == pytest.approx(similarity, abs=0.06)


def test_frames_of_what_does_not_move_share_their_noise(checkpoint):
    stack = recorded(np.repeat(structure(1), 6, axis=0))
    inputs = inputs_of(Restorer.load(checkpoint), stack, "TYX")
    assert inputs.record["key_planes"] == {"t": 1}
    for plane in inputs.planes:
        if isinstance(plane.noise, Mixture):
            assert plane.noise.names == ("a_t0", "a_t6") and plane.noise.weights[0] > 0.9


def test_unrelated_planes_have_independent_noise(checkpoint):
    inputs = inputs_of(Restorer.load(checkpoint), recorded(structure(4)), "ZYX")
    assert [plane.noise for plane in inputs.planes] == ["a_z0", "a_z1", "a_z2", "a_z3"]


def test_noise_correlates_as_the_content_does():
    keys, similarities = KeyPlanes(), [1, 0.9, 0.6, 1, 0.8]
    keys.found = list(zip([0, 0, 0, 3, 3], similarities, strict=True))
    weights = [keys.weights(place) for place in range(5)]
    assert [set(one) for one in weights] == [{0}, {0, 3}, {0, 3}, {3}, {3, 5}]
    assert [sum(weight**2 for weight in one.values()) for one in weights] == pytest.approx([1] * 5)
    assert [one[key] for one, key in zip(weights, [0, 0, 0, 3, 3], strict=True)] == similarities


def test_settings_choose_the_noise(checkpoint):
    stack = recorded(np.stack([structure(3), structure(3)]))
    names = {
        noise: [
            plane.noise for plane in inputs_of(Restorer.load(checkpoint, noise=noise), stack, "CZYX").planes
        ]
        for noise in ("shared", "independent")
    }
    assert names["shared"] == ["a_c0_z0"] * 3 + ["a_c1_z0"] * 3
    assert names["independent"] == [f"a_c{c}_z{z}" for c in range(2) for z in range(3)]
    with pytest.raises(UserError) as error:
        Restorer.load(checkpoint, noise="none")
    assert error.value.subject == "noise"


def test_noise_of_movies_of_volumes_depends_on_both_axes(checkpoint):
    still = np.repeat(recorded(structure(3))[None], 2, axis=0)
    inputs = inputs_of(Restorer.load(checkpoint), still, "TZYX")
    assert inputs.record["key_planes"] == {"t": 1, "z": 3}
    assert [plane.noise for plane in inputs.planes] == ["a_t0_z0", "a_t0_z1", "a_t0_z2"] * 2


@pytest.mark.parametrize("share", [0.0, 0.36, 1.0])
def test_variance_of_the_mean_of_planes(share):
    """Planes with correlation r have a mean with the variance (1 + (n - 1) r) / n."""
    planes = 8
    keys = [Mixture(("a", f"a_{at}"), (share**0.5, (1 - share) ** 0.5)) for at in range(planes)]
    mean = KeyedNoise(0, keys, [0] * planes)(0, (1, 256, 256)).double().mean(0)
    assert mean.var().item() == pytest.approx((1 + (planes - 1) * share) / planes, rel=0.03)


@pytest.mark.parametrize("axes", ["YX", "CYX", "ZCYX"])
def test_single_planes_are_as_they_were(checkpoint, axes):
    image = recorded(structure(2))
    stack = image if axes == "CYX" else image[None] if axes == "ZCYX" else image[0]
    default = Restorer.load(checkpoint).restore(stack, 2, "a", axes)
    before = Restorer.load(checkpoint, scale="plane", noise="independent").restore(stack, 2, "a", axes)
    assert np.array_equal(default.mean, before.mean) and np.array_equal(default.std, before.std)


# Flicker


def jumps(stack: np.ndarray) -> float:
    return float(np.square(np.diff(stack, axis=-3)).mean())


def test_samples_of_what_does_not_move_hardly_flicker(checkpoint):
    """Of a network with random weights, which passes noise on: what shared noise leaves is noise of the images."""
    torch.manual_seed(0)
    stack = recorded(np.repeat(structure(1), 5, axis=0) * 20)
    found = {
        noise: Restorer.load(checkpoint, noise=noise).restore(stack, 2, "a", "TYX", keep_samples=True)
        for noise in ("independent", "correlated")
    }
    assert jumps(found["correlated"].samples) < 0.2 * jumps(found["independent"].samples)
    assert jumps(found["correlated"].mean) < 0.3 * jumps(found["independent"].mean)


def test_files_do_not_depend_on_processes(checkpoint, tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        stack = recorded(np.repeat(structure(2), 2, axis=0), ord(name))
        tifffile.imwrite(tmp_path / "in" / f"{name}.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    for processes in (1, 2):
        done = restore_folder(
            checkpoint=checkpoint,
            input=tmp_path / "in",
            output=tmp_path / str(processes),
            processes=processes,
            samples=2,
        )
        assert [record["stack"]["key_planes"] for record in done.records] == [{"z": 2}] * 2
    for name in ("a.tif", "a_std.tif", "b.tif", "b_std.tif"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
