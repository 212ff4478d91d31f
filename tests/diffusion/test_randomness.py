import pytest
import torch
from scipy import stats

from ddpm_lightning.diffusion.randomness import KeyedNoise, Mixture, philox4x32


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_equals_the_known_answers_of_its_authors(counter, key, expected):
    words = philox4x32([torch.tensor(word) for word in counter], [torch.tensor(word) for word in key])
    assert [int(word) for word in words] == expected


def test_noise_is_standard_normal_and_uncorrelated():
    noise = KeyedNoise(0, ["a"], [0])(0, (1, 512, 512)).flatten().double()
    assert stats.kstest(noise.numpy(), "norm").pvalue > 0.01
    for lag in (1, 2, 3, 4, 512):
        assert abs((noise[lag:] * noise[:-lag]).mean()) < 4 / len(noise) ** 0.5


def test_uniform_numbers_are_uniform_and_inside_of_the_interval():
    uniform = KeyedNoise(3, ["a"], [1]).uniform(0, 100_000).flatten()
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 0.01
    assert 0 < uniform.min() and uniform.max() < 1


def test_the_same_key_gives_the_same_noise_in_any_batch():
    together = KeyedNoise(7, ["a", "b", "a"], [0, 0, 1])(5, (1, 9, 7))
    for row, (image, sample) in enumerate((("a", 0), ("b", 0), ("a", 1))):
        assert torch.equal(together[row], KeyedNoise(7, [image], [sample])(5, (1, 9, 7))[0])


@pytest.mark.parametrize("other", [(1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)])
def test_each_part_of_the_key_changes_the_noise(other):
    seed, image, sample, step = other
    a = KeyedNoise(0, ["a"], [0])(0, (1, 64, 64)).flatten()
    b = KeyedNoise(seed, [image], [sample])(step, (1, 64, 64)).flatten()
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.06


def test_joined_keys_do_not_collide():
    """Seed 1 of image "23" is not seed 12 of image "3"."""
    assert not torch.equal(KeyedNoise(1, ["23"], [0])(0, (1, 4, 4)), KeyedNoise(12, ["3"], [0])(0, (1, 4, 4)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (2, 8, 8)])
def test_any_shape(shape):
    noise = KeyedNoise(0, ["a", "b"], [0, 0])(0, shape)
    assert noise.shape == (2, *shape) and noise.dtype == torch.float32


def test_rows_need_an_image_and_a_sample():
    with pytest.raises(ValueError, match="2 images but 1 samples"):
        KeyedNoise(0, ["a", "b"], [0])


def test_mixtures_are_standard_normal_and_correlate_by_their_common_names():
    first, second = Mixture(("a", "b"), (0.8, 0.6)), Mixture(("b", "c"), (0.8, -0.6))
    noise = KeyedNoise(0, [first, second, "a"], [0, 0, 0])(3, (1, 256, 256)).flatten(1).double()
    found, expected = torch.cov(noise), torch.tensor([[1, 0.48, 0.8], [0.48, 1, 0], [0.8, 0, 1]])
    assert (found - expected).abs().max() < 0.02


def test_rows_do_not_depend_on_the_mixtures_of_other_rows():
    keys = [Mixture(("a", "b"), (0.8, 0.6)), "a", Mixture(("a",), (1.0,))]
    together = KeyedNoise(0, keys, [1, 1, 1])(0, (1, 5, 7))
    for row, key in enumerate(keys):
        assert torch.equal(together[row], KeyedNoise(0, [key], [1])(0, (1, 5, 7))[0])
    assert torch.equal(together[1], together[2])


def test_uniform_numbers_of_mixtures_are_uniform_and_mirrored():
    uniform = KeyedNoise(0, [Mixture(("a", "b"), (0.8, 0.6))] * 2, [0, 1]).antithetic().uniform(0, 100_000)
    torch.testing.assert_close(uniform[0], 1 - uniform[1])
    quantiles = uniform[0].quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    assert (quantiles - torch.tensor([0.1, 0.5, 0.9])).abs().max() < 0.005
