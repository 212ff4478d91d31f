"""The centres of images: for scores that shall not cost more than they must."""

from dataclasses import replace

from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.utils.errors import UserError

__all__ = ["Centres"]


class Centres:
    """Pairs cut down to squares around their centres.

    Args:
        source: The pairs.
        side: Side of the squares in pixels.

    Raises:
        UserError: At an image that is smaller.
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
                f"centre={self.side}", f"image {pair.name} has {found}", remedy="choose a smaller centre"
            )
        top, left = (max(0, (size - self.side) // 2) for size in pair.high.shape)
        square = slice(top, top + self.side), slice(left, left + self.side)
        return replace(pair, low=pair.low[square], high=pair.high[square])
