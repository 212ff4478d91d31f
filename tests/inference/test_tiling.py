import pytest
import torch
from torch import nn

from ddpm_lightning.errors import UserError
from ddpm_lightning.inference.tiling import Tiler


class Local(nn.Module):
    """A network whose output depends on 5 x 5 pixels: two convolutions with random weights."""

    multiple = 4

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
    torch.testing.assert_close(Tiler(tile, overlap, multiple=4)(Identity(), x), x, rtol=1e-5, atol=1e-6)


def test_tiles_do_not_show_where_the_overlap_covers_the_receptive_field():
    """Borders of tiles are padded with zeros, which a 5 x 5 field sees 2 pixels deep: there the window is small."""
    network, x, label = Local().eval(), torch.randn(1, 2, 96, 120), torch.tensor([1.5])
    with torch.no_grad():
        whole, tiled = network(x, label), Tiler(48, 16, multiple=4)(network, x, label)
    # Weight of the two border rows: sin² of half a pixel and of one and a half, of 16.
    assert (tiled - whole).abs().max() < 0.05 * whole.std()
    inside = (tiled - whole)[..., :22, :22]  # before the second tile begins, at 24
    assert inside.abs().max() < 1e-5


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_does_not_matter(batch):
    network, x, label = Local().eval(), torch.randn(2, 2, 80, 80), torch.tensor([1.0, 2.0])
    with torch.no_grad():
        expected = Tiler(32, 8, 4, batch=8)(network, x, label)
        torch.testing.assert_close(
            Tiler(32, 8, 4, batch=batch)(network, x, label), expected, rtol=1e-5, atol=1e-6
        )


def test_small_canvases_are_not_cut():
    calls = []

    class Spy(nn.Module):
        def forward(self, x):
            calls.append(x.shape)
            return x

    Tiler(64, 8)(Spy(), torch.zeros(3, 1, 64, 32))
    assert calls == [(3, 1, 64, 32)]


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(100, 32, 8), (256, 64, 32 - 1), (65, 64, 8), (1000, 96, 40)]
)
def test_tiles_cover_a_side_and_share_the_overlap(length, tile, overlap):
    length -= length % 4
    tiler = Tiler(tile, overlap, multiple=4)
    starts = tiler.starts(length)
    assert starts[0] == 0 and starts[-1] + tiler.tile >= length and starts[-1] <= max(length - tiler.tile, 0)
    assert all(start % 4 == 0 for start in starts)
    gaps = [b - a for a, b in zip(starts, starts[1:], strict=False)]
    assert all(gap <= tiler.tile - overlap + 4 for gap in gaps)


def test_tiles_must_exceed_their_overlaps():
    with pytest.raises(UserError, match="twice the overlap"):
        Tiler(32, 16)
