"""The central part of each image, which makes scoring a benchmark fast."""

from dataclasses import replace

from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.utils.errors import UserError

__all__ = ["CenterCrops"]


class CenterCrops:
    """Pairs cropped to a square around the centre of each image.

    Args:
        source: The pairs.
        side: Side of the squares in pixels.

    Raises:
        UserError: When an image smaller than the crop is read.
    """

    def __init__(self, source: PairSource, side: int) -> None:
        self.source, self.side = source, side

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Pair:
        pair = self.source[index]
        if min(pair.high.shape) < self.side:
            found = f"{pair.high.shape[0]} x {pair.high.shape[1]} pixels"
            raise UserError(
                f"center_crop={self.side}", f"image {pair.name} has {found}", remedy="choose a smaller crop"
            )
        top, left = (max(0, (size - self.side) // 2) for size in pair.high.shape)
        square = slice(top, top + self.side), slice(left, left + self.side)
        around = tuple(None if plane is None else plane[square] for plane in pair.neighbours)
        return replace(pair, low=pair.low[square], high=pair.high[square], neighbours=around)
