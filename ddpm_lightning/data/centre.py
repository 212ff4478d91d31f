"""The centres of images: for scores that shall not cost more than they must."""

from dataclasses import replace

from ddpm_lightning.data.pairs import Pair, PairSource

__all__ = ["Centres"]


class Centres:
    """Pairs cut down to squares around their centres; smaller images stay as they are.

    Args:
        source: The pairs.
        side: Side of the squares in pixels.
    """

    def __init__(self, source: PairSource, side: int) -> None:
        self.source, self.side = source, side

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Pair:
        pair = self.source[index]
        top, left = (max(0, (size - self.side) // 2) for size in pair.high.shape)
        square = slice(top, top + self.side), slice(left, left + self.side)
        return replace(pair, low=pair.low[square], high=pair.high[square])
