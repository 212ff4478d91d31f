"""Simulated pairs that are generated on demand, and optionally cached on disk."""

from pathlib import Path
from typing import Any

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.simulation.cache import PairCache
from ddpm_lightning.utils.errors import UserError


class LazyPairs:
    """Base of simulated pairs; each is a separate field of view, named by its number.

    A subclass generates each pair independently of the others (:meth:`_simulate`).

    Args:
        split: ``train``, ``val`` or ``test``; the splits share no image.
        count: Number of pairs.
        size: Side of the images in pixels.
        seed: Seed of the whole set.
        recipe: Everything that determines their content; see :class:`PairCache`.
        cache: Folder that caches the pairs, or ``None``.
        pixel_size: Size of a pixel in µm, or ``None`` if it has no meaning.

    Raises:
        UserError: If the split is unknown or a number out of range.
    """

    def __init__(
        self,
        split: str,
        count: int,
        size: int,
        seed: int,
        recipe: object,
        cache: str | Path | None,
        pixel_size: float | None = None,
    ) -> None:
        if split not in SPLITS:
            raise UserError("data.split", f"{split!r}", ", ".join(SPLITS), "choose one of them")
        if count < 1 or size < 16 or seed < 0:
            raise UserError(
                "data",
                f"count={count}, size={size}, seed={seed}",
                "count of 1 or more, size of 16 or more, seed of 0 or more",
                "change the number that is out of range",
            )
        self.split, self.count, self.size, self.seed = split, count, size, seed
        self.pixel_size = pixel_size
        self.cache = None if cache is None else PairCache(Path(cache), recipe)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Pair:
        if not -self.count <= index < self.count:
            raise IndexError(f"pair {index} of {self.count}")
        index %= self.count
        content = self._simulate(index) if self.cache is None else self.cache.get(index, self._simulate)
        low, high, name = content.pop("low"), content.pop("high"), f"{index:05d}"
        return Pair(low, high, name, field=name, pixel_size=self.pixel_size, extra=content)

    def _simulate(self, index: int) -> dict[str, Any]:
        """Returns ``low`` and ``high`` with shape (H, W), and the content of ``Pair.extra``."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _simulate")
