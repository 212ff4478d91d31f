"""Training crops: cached, cropped, augmented and normalised pairs, reproducible in any process.

A crop is flipped and rotated as a view of the integers of the file, and copied once, as float, into the batch.

The sampler yields (epoch, index) instead of an index. Crop, augmentation and order are functions of (seed, epoch,
index) alone: they do not depend on the number of workers or processes, differ between epochs, and are the same after a
run is resumed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ddpm_lightning.data.augment import SYMMETRIES, Blur, symmetry
from ddpm_lightning.data.defects import Repairs, repairs_of
from ddpm_lightning.data.neighbours import NeighbourChoice
from ddpm_lightning.data.normalise import PairNormalisation, Scale
from ddpm_lightning.data.pairs import NeighbourPlanes, Pair, PairSource, neighbour_of
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.plane_order import neighbour_distances

__all__ = ["CachedPairs", "CropDataset", "KeyedBatchSampler", "already_collated"]

#: Columns that are copied at a time.
SLAB = 64


class CachedPairs:
    """A source that caches its pairs in memory, up to a limit; the others are read again.

    Defective pixels of noisy images are replaced, as in ``restore``. The search takes much longer than a crop, so each
    image is searched once per process, when it is first used, and the replacements are remembered, whether or not the
    pixels are cached.

    Args:
        source: The pairs, with their pixels as recorded.
        limit_gb: Memory for pairs, in 10^9 bytes.
        keep_defects: Whether defective pixels are kept.
        neighbours: Planes before and after each plane of a stack that its pair includes.

    Attributes:
        planes: The pairs, with their pixels as recorded, not cached.
        source: The same with their neighbours.
    """

    def __init__(
        self, source: PairSource, limit_gb: float = 4.0, keep_defects: bool = False, neighbours: int = 0
    ) -> None:
        self.planes, self.limit, self.keep_defects = source, limit_gb * 1e9, keep_defects
        self.source = NeighbourPlanes(source, neighbours) if neighbours else source
        self._distances = neighbour_distances(neighbours)
        self._pairs: dict[int, Pair] = {}
        self._repairs: dict[int, Repairs | None] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, index: int) -> Pair:
        pair = self.repaired(index, self.recorded(index))
        if not self._distances:
            return pair
        found = [self.neighbour(index, distance) for distance in self._distances]
        planes = (None if at is None else self.repaired(at, self.recorded(at)).low for at in found)
        return replace(pair, neighbours=tuple(planes))

    def neighbour(self, index: int, distance: int) -> int | None:
        """Returns the index of a neighbour of a plane in its stack."""
        return neighbour_of(self.planes, index, distance)

    def recorded(self, index: int) -> Pair:
        """Returns a pair with its pixels as recorded, without neighbours."""
        pair = self._pairs.get(index)
        if pair is None:
            pair = self.planes[index]
            size = pair.low.nbytes + pair.high.nbytes
            if self._bytes + size <= self.limit:
                self._pairs[index] = pair
                self._bytes += size
        return pair

    def repairs(self, index: int, pair: Pair) -> Repairs | None:
        """Returns the replacements in the noisy image of a recorded pair; ``None`` if there are none."""
        if index not in self._repairs:
            self._repairs[index] = None if self.keep_defects else repairs_of(pair.low)
        return self._repairs[index]

    def repaired(self, index: int, pair: Pair) -> Pair:
        """Returns a recorded pair with its defective pixels replaced."""
        repairs = self.repairs(index, pair)
        if repairs is None:
            return pair
        low = repairs.apply(pair.low)
        return replace(pair, low=low, high=pair.high if pair.paired else low)


class CropDataset(Dataset):
    """Random crops of pairs, normalised to about [-1, 1].

    Args:
        source: Pairs at least as large as the crops; their defective pixels are replaced.
        normalisation: Fitted maps of both images.
        crop: Side of the square crops in pixels.
        crops_per_image: Crops of each image per epoch.
        augment: Whether crops are flipped and rotated, both images alike.
        seed: Seed of crops and augmentation.
        blur: Blurs some of the noisy crops, if given.
        neighbours: Which planes of a stack a crop includes besides its own, if any.
    """

    def __init__(
        self,
        source: PairSource | CachedPairs,
        normalisation: PairNormalisation,
        crop: int,
        crops_per_image: int = 1,
        augment: bool = True,
        seed: int = 0,
        blur: Blur | None = None,
        neighbours: NeighbourChoice = NeighbourChoice(),  # noqa: B008  (immutable)
    ) -> None:
        self.neighbours = neighbours
        self.source = source if isinstance(source, CachedPairs) else CachedPairs(source, 0.0)
        self.normalisation = normalisation
        self.crop, self.crops_per_image, self.augment, self.seed = crop, crops_per_image, augment, seed
        self.blur, self._scales = blur, dict[int, tuple[Scale, Scale]]()

    def __len__(self) -> int:
        return len(self.source) * self.crops_per_image

    def __getitem__(self, key: tuple[int, int] | int) -> dict:
        """Returns ``low`` and ``high`` with shape (C, crop, crop), and the ``name`` of their pair.

        Args:
            key: (epoch, index), or an index of epoch 0.
        """
        return {name: values[0] for name, values in self.__getitems__([key]).items()}

    def __getitems__(self, keys: Sequence[tuple[int, int] | int]) -> dict:
        """Returns a batch: ``low`` (B, 1 + 2 N, crop, crop), ``high`` (B, 1, crop, crop), and each ``name`` in a list.

        The order of N neighbours on each side is that of :mod:`ddpm_lightning.utils.plane_order`.
        PyTorch's loader calls this method if it exists; its ``collate_fn`` is then :func:`already_collated`.
        """
        low = torch.empty(len(keys), 1 + 2 * self.neighbours.count, self.crop, self.crop)
        high = torch.empty(len(keys), 1, self.crop, self.crop)
        places = zip(keys, low.numpy(), high.numpy()[:, 0], strict=True)
        return {"low": low, "high": high, "name": [self._fill(*place) for place in places]}

    def _fill(self, key: tuple[int, int] | int, lows: np.ndarray, high: np.ndarray) -> str:
        """Writes an item to the batch, and returns its name.

        Args:
            key: (epoch, index), or an index of epoch 0.
            lows: Place of the noisy plane and its neighbours with shape (C, crop, crop).
            high: Place of the clean plane with shape (crop, crop).
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng((self.seed, epoch, index))
        number = index // self.crops_per_image
        pair = self.source.recorded(number)
        height, width = pair.low.shape
        if min(height, width) < self.crop:
            raise UserError(
                f"pair {pair.name}",
                f"is {height} x {width} pixels, smaller than the crop of {self.crop}",
                remedy=f"set data.crop={min(height, width) // 8 * 8} or less, or leave the pair out",
            )
        y, x = rng.integers(height - self.crop + 1), rng.integers(width - self.crop + 1)
        turn = int(rng.integers(SYMMETRIES)) if self.augment else 0
        if number not in self._scales:
            repaired = self.source.repaired(number, pair)
            self._scales[number] = self.normalisation.scales(repaired.low, repaired.high)
        scale, target_scale = self._scales[number]
        low = self._cut(number, pair, y, x)
        clean = pair.high[y : y + self.crop, x : x + self.crop] if pair.paired else low
        _write(symmetry(low, turn), scale, lows[0])
        _write(symmetry(clean, turn), target_scale, high)
        for other, place in zip(self.neighbours.of(self.source, number, rng), lows[1:], strict=True):
            if other is None:
                place.fill(np.nan)
            else:
                crop = self._cut(other, self.source.recorded(other), y, x)
                _write(symmetry(crop, turn), scale, place)
        if self.blur is not None:
            self.blur(lows[0], rng)
        return f"{pair.name}@{y},{x},{turn}"

    def _cut(self, number: int, pair: Pair, y: int, x: int) -> np.ndarray:
        """Returns a crop of the noisy image of a pair without its defective pixels, with the shape (crop, crop)."""
        low, repairs = pair.low[y : y + self.crop, x : x + self.crop], self.source.repairs(number, pair)
        return repairs.apply(low, y, x) if repairs else low


def already_collated(batch: Any) -> Any:
    """Returns the batch unchanged: :class:`CropDataset` makes complete batches."""
    return batch


def _write(view: np.ndarray, scale: Scale, place: np.ndarray) -> None:
    """Writes a normalised view to its place in a batch."""
    if scale.far:
        scale.normalise(view, out=place)
        return
    _copy(view, place)
    scale.normalise(place, out=place)


def _copy(view: np.ndarray, place: np.ndarray) -> None:
    """Copies a view into a float array of its shape.

    A rotation by 90 degrees reads the file column by column: copying narrow slabs uses each line of the processor's
    cache completely before it is evicted, which halves the time.
    """
    for start in range(0, view.shape[1], SLAB):
        columns = np.s_[:, start : start + SLAB]
        np.copyto(place[columns], view[columns], casting="unsafe")


class KeyedBatchSampler(Sampler):
    """Batches of (epoch, index), shuffled by (seed, epoch) and distributed over the processes.

    The batch size is that of all processes together, so one process with 8 and two with 4 see the same batches.
    Incomplete batches are dropped, unless the set itself is smaller than a batch.

    Args:
        length: Size of the data set.
        batch_size: Images in a batch, over all processes.
        shuffle: Whether each epoch has its own order; otherwise it is that of the data set.
        seed: Seed of the order.
        rank: Number of this process.
        processes: Number of processes; it must divide the batch size.
        position: Returns, at the beginning of a pass, how many batches the run has seen, which determines the epoch and
            the position in it: a resumed run continues within the interrupted epoch. Lightning's own epoch counters
            cannot be used: in a checkpoint of the last step they are one ahead.

    Raises:
        UserError: If the processes do not divide the batch size.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
        position: Callable[[], int] = int,
    ) -> None:
        if batch_size % processes:
            raise UserError(
                "data.batch_size",
                f"{batch_size} images cannot be distributed evenly over {processes} processes",
                remedy=f"choose a multiple of {processes}; the batch is that of all processes together",
            )
        self.length, self.batch_size, self.shuffle, self.seed = length, batch_size, shuffle, seed
        self.rank, self.processes, self.position = rank, processes, position

    def __len__(self) -> int:
        return max(self.length // self.batch_size, 1)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, seen = divmod(self.position(), len(self))
        order = np.arange(self.length)
        if self.shuffle:
            np.random.default_rng((self.seed, epoch, 1)).shuffle(order)
        order = np.resize(order, max(self.length, self.batch_size))
        for number in range(seen, len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield [(epoch, int(index)) for index in batch[self.rank :: self.processes]]
