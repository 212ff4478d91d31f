"""Quarter turns and flips, against numpy; noise that turns with the image."""

import numpy as np
import pytest
import torch

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.symmetry import SYMMETRIES, turn, turn_back


@pytest.mark.parametrize("which", range(SYMMETRIES))
def test_turns_are_those_of_numpy_and_can_be_undone(which):
    image = torch.arange(30.0).reshape(1, 1, 5, 6)
    expected = np.rot90(image[0, 0].numpy()[:, ::-1] if which >= 4 else image[0, 0].numpy(), which % 4)
    assert np.array_equal(turn(image, which)[0, 0].numpy(), expected)
    assert torch.equal(turn_back(turn(image, which), which), image)


def test_all_turns_differ():
    image = torch.arange(9.0).reshape(3, 3)
    assert len({tuple(turn(image, which).flatten().tolist()) for which in range(SYMMETRIES)}) == SYMMETRIES


@pytest.mark.parametrize("turns", [[0, 2, 6], [1, 3, 7]])
def test_noise_turns_with_its_image(turns):
    plain = KeyedNoise(3, ["a"] * 3, [0, 1, 2]).antithetic()
    shape = (1, 6, 4) if turns[0] % 2 else (1, 4, 6)
    oriented = plain.oriented(turns)
    for field in (KeyedNoise.__call__, KeyedNoise.uniform_field):
        upright = field(plain, 5, (1, 4, 6))
        expected = torch.cat([turn(row, which) for row, which in zip(upright.split(1), turns, strict=True)])
        assert torch.equal(field(oriented, 5, shape), expected)
        assert torch.equal(field(oriented.antithetic(), 5, shape), expected)
