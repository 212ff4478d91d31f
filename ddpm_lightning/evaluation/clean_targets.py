"""Simulated pairs whose target is the expected image without noise, as the simulation knows it."""

from dataclasses import replace

from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.utils.errors import UserError

__all__ = ["CleanTargets"]

#: Name of the expected image without noise in ``Pair.extra``.
CLEAN = "emitters"


class CleanTargets:
    """Pairs with the image without noise in place of the recorded clean image.

    Args:
        source: Pairs of a simulation.

    Raises:
        UserError: If the source does not know it.
    """

    def __init__(self, source: PairSource) -> None:
        self.source = source
        if CLEAN not in source[0].extra:
            raise UserError(
                "truth=clean",
                "these pairs have no clean image without noise",
                allowed="test images of simulated sets",
                remedy="use truth=recorded, or data=simulated_zebrafish split=test, for example",
            )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Pair:
        pair = self.source[index]
        return replace(pair, high=pair.extra[CLEAN])
