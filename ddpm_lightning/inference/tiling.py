r"""Networks applied to a canvas tile by tile, without seams.

The state of a sampler, its noise and every pointwise step belong to the whole canvas; only the *network* is applied to
tiles, and its outputs are blended at once by a smooth window before anything else happens to them. So neighbouring
tiles never drift apart, no texture is averaged away in overlaps, and the number of tiles is invisible to the sampler
(the idea of MultiDiffusion, arXiv 2302.08113, applied to the predicted image). A canvas that fits in one tile takes the
very path of an untiled one.
"""

import torch
from torch import Tensor, nn

from ddpm_lightning.errors import UserError

__all__ = ["Tiler"]


class Tiler:
    """Applies a network to overlapping tiles of a canvas and blends its outputs.

    Args:
        tile: Side of the tiles in pixels; canvases up to this side are not cut.
        overlap: Least number of pixels that neighbouring tiles share.
        multiple: Tiles start at, and their side is, a multiple of this: the network's ``multiple``.
        batch: Tiles that are computed together.

    Raises:
        UserError: If the tile is not larger than twice the overlap.
    """

    def __init__(self, tile: int, overlap: int, multiple: int = 1, batch: int = 8) -> None:
        self.tile = -(-tile // multiple) * multiple
        self.overlap, self.multiple, self.batch = overlap, multiple, batch
        if overlap < 0 or self.tile <= 2 * overlap:
            raise UserError(
                "tile", f"is {tile} with an overlap of {overlap}", allowed="a tile above twice the overlap"
            )

    def starts(self, length: int) -> list[int]:
        """Returns where tiles start along a side, evenly spread, at multiples of ``multiple``."""
        if length <= self.tile:
            return [0]
        count = -(-(length - self.overlap) // (self.tile - self.overlap))
        last = length - self.tile
        return [round(last * k / (count - 1) / self.multiple) * self.multiple for k in range(count)]

    def __call__(self, network: nn.Module, *inputs: Tensor) -> Tensor:
        """Returns the blended output.

        Args:
            network: Maps images (B, C, h, w), and per-image inputs (B,), to images (B, C', h, w).
            inputs: Canvases with shape (B, C, H, W), sides divisible by ``multiple``, and per-image inputs (B,).
        """
        canvas = next(value for value in inputs if value.ndim == 4)
        images, (height, width) = len(canvas), canvas.shape[-2:]
        if height <= self.tile and width <= self.tile:
            return network(*inputs)
        tile_h, tile_w = min(self.tile, height), min(self.tile, width)
        places = [(n, y, x) for n in range(images) for y in self.starts(height) for x in self.starts(width)]
        window = _window(tile_h, self.overlap)[:, None] * _window(tile_w, self.overlap)[None]
        window = window.to(canvas)
        total, weight = None, canvas.new_zeros(height, width)
        for first in range(0, len(places), self.batch):
            chosen = places[first : first + self.batch]
            outputs = network(*(_cut(value, chosen, tile_h, tile_w) for value in inputs)).to(canvas.dtype)
            if total is None:
                total = canvas.new_zeros(images, outputs.shape[1], height, width)
            for (n, y, x), output in zip(chosen, outputs, strict=True):
                total[n, :, y : y + tile_h, x : x + tile_w] += output * window
                if n == 0:
                    weight[y : y + tile_h, x : x + tile_w] += window
        return total / weight


def _cut(value: Tensor, places: list[tuple[int, int, int]], height: int, width: int) -> Tensor:
    """Cuts tiles out of canvases, or repeats per-image values for each tile."""
    if value.ndim == 4:
        return torch.stack([value[n, :, y : y + height, x : x + width] for n, y, x in places])
    return torch.stack([value[n] for n, _, _ in places])


def _window(length: int, overlap: int) -> Tensor:
    """Returns a window that rises along a sine over the overlap and never reaches zero, with shape (length,)."""
    ramp = max(overlap, 1)
    distance = torch.minimum(torch.arange(length), torch.arange(length).flip(0)).double() + 0.5
    return torch.sin((distance / ramp).clamp(max=1) * torch.pi / 2) ** 2
