from itertools import pairwise

import pytest
import torch
from torch import nn

from ddpm_lightning.inference.tiling import Tiler
from ddpm_lightning.utils.errors import UserError


class Local(nn.Module):
    """A network whose output depends on 5 x 5 pixels: two convolutions with random weights."""

    size_divisor = 4

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1))

    def forward(self, x, label):
        return self.layers(x) * label[:, None, None, None]


class Identity(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize("size", [(64, 64), (100, 68), (40, 200), (36, 36)])
@pytest.mark.parametrize(("tile", "overlap"), [(32, 8), (48, 0), (32, 15)])
def test_the_identity_is_reproduced_exactly(size, tile, overlap):
    x = torch.randn(2, 1, *size)
    torch.testing.assert_close(Tiler(tile, overlap, size_divisor=4)(Identity(), x), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("tile", "overlap"), [(32, 8), (48, 16), (64, 24)])
def test_tiles_do_not_show_where_the_overlap_covers_the_receptive_field(tile, overlap):
    """A 5 x 5 field sees 2 pixels into the padding of a tile: there the window is 0."""
    network, x, label = Local().eval(), torch.randn(1, 2, 96, 120), torch.tensor([1.5])
    with torch.no_grad():
        whole, tiled = network(x, label), Tiler(tile, overlap, size_divisor=4)(network, x, label)
    torch.testing.assert_close(tiled, whole, rtol=1e-5, atol=1e-6)


class Reversed(Tiler):
    """Tiles in the opposite order."""

    def starts(self, length):
        return super().starts(length)[::-1]


@pytest.mark.parametrize(
    "other",
    [{"pixels": 1}, {"threads": 2}, {"pixels": 2 * 32**2, "threads": 3}, {"order": Reversed, "threads": 3}],
)
def test_order_batch_and_threads_do_not_matter(other):
    network, x, label = Local().eval(), torch.randn(2, 2, 80, 80), torch.tensor([1.0, 2.0])
    with torch.no_grad():
        expected = Tiler(32, 8, 4)(network, x, label)
        assert torch.equal(other.pop("order", Tiler)(32, 8, 4, **other)(network, x, label), expected)


def test_threads_compute_in_the_modes_of_their_caller():
    class Spy(nn.Module):
        def forward(self, x):
            assert torch.is_inference_mode_enabled() and torch.get_num_threads() == 1
            return x

    with torch.inference_mode():
        Tiler(32, 8, threads=2)(Spy(), torch.zeros(1, 1, 64, 64))


class Greedy(nn.Module):
    """Wants more memory than there is for tiles beyond a size."""

    def __init__(self, most):
        super().__init__()
        self.most, self.tried = most, []

    def forward(self, x):
        self.tried.append(max(x.shape[-2:]))
        if self.tried[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x


@pytest.mark.parametrize("tile", [256, None])
def test_low_memory_leads_to_smaller_tiles_and_a_message(tile):
    x, said, network = torch.randn(1, 1, 256, 320), [], Greedy(128)
    tiler = Tiler(tile, 32, size_divisor=8, say=said.append)
    torch.testing.assert_close(tiler(network, x), x, rtol=1e-5, atol=1e-6)
    assert network.tried[-1] == max(tiler.size(256, 320)) <= 128
    assert "out of memory" in said[-1] and f"tiles of {network.tried[-1]} pixels" in said[-1]


def test_memory_that_is_short_for_the_smallest_tile_is_an_error():
    with pytest.raises(UserError, match="memory: does not suffice for one tile of 64 pixels"):
        Tiler(256, 32, size_divisor=8)(Greedy(32), torch.zeros(1, 1, 256, 256))


def test_other_errors_of_a_network_are_not_hidden():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Tiler(64, 8)(Broken(), torch.zeros(1, 1, 100, 100))


def test_small_canvases_are_not_cut():
    calls = []

    class Spy(nn.Module):
        def forward(self, x):
            calls.append(x.shape)
            return x

    Tiler(64, 8)(Spy(), torch.zeros(3, 1, 64, 32))
    assert calls == [(1, 1, 64, 32)] * 3


@pytest.mark.parametrize(
    ("tile", "overlap", "divisor"), [(32, 8, 4), (64, 31, 4), (96, 40, 8), (128, 32, 1), (512, 32, 16)]
)
def test_tiles_cover_a_side_with_the_fewest_pixels(tile, overlap, divisor):
    tiler = Tiler(tile, overlap, divisor)
    for length in range(divisor, 5 * tile, divisor):
        starts, side = tiler.starts(length), tiler.side(length)
        assert starts[0] == 0 and starts[-1] + side == length and side <= tile
        assert all(start % divisor == 0 for start in starts)
        assert all(0 < b - a <= side - overlap for a, b in pairwise(starts))
        if length <= tile:
            assert side == length
            continue
        others = range(tile, max(tile // 2, overlap + divisor) - 1, -divisor)
        assert side * len(starts) == min(other * fewest(length, other, overlap, divisor) for other in others)


def fewest(length, side, overlap, divisor):
    """Lays tiles of a side one after another, each as far from the last as their overlap and the divisor allow."""
    count, start = 1, 0
    while start + side < length:
        start, count = start + (side - overlap) // divisor * divisor, count + 1
    return count


def test_canvases_of_common_sizes_have_few_pixels_to_compute():
    """Planes of 256, 512 and 1024 pixels with the default margin."""
    tiler = Tiler(512, 32, 8)
    assert [tiler.size(side, side) for side in (288, 544, 1056)] == [(288, 288), (288, 288), (376, 376)]
    assert [tiler.count(side, side) for side in (288, 544, 1056)] == [1, 4, 9]


def test_tiles_must_exceed_their_overlaps():
    with pytest.raises(UserError, match="twice the overlap"):
        Tiler(32, 16)
