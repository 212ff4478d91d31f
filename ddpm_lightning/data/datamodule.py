"""The base of all data sets: loaders of normalised crops from sources of pairs.

A data set is a subclass with one method, :meth:`PairDataModule.source`. Training uses random crops; validation uses a
fixed set of crops, the same in every epoch and run; evaluation and restoration read complete images from the sources.
"""

import math
from contextlib import suppress
from typing import Any, Literal

import lightning
import numpy as np
from torch.utils.data import DataLoader

from ddpm_lightning.data.augment import Blur
from ddpm_lightning.data.dataset import CachedPairs, CropDataset, KeyedBatchSampler, already_collated
from ddpm_lightning.data.neighbours import NeighbourChoice
from ddpm_lightning.data.normalise import PairNormalisation
from ddpm_lightning.data.pairs import NoisyImages, PairSource
from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import BelowOne, Count, FromZero, NonNegative, Seed

__all__ = ["PairDataModule"]


class PairDataModule(lightning.LightningDataModule):
    """Loads pairs of low and high images for training and validation.

    Args:
        normalisation: Maps of both images to [-1, 1]; fitted to the training split unless a state was loaded.
        crop: Side of the training crops in pixels.
        batch_size: Images per optimiser step, over all processes.
        crops_per_image: Crops of each training image per epoch; by default as many as cover its area once.
        augment: Whether crops are flipped and rotated.
        blur: Blurs some of the noisy training crops; by default none.
        hot_pixels: ``replace`` replaces defective pixels of noisy images, as ``restore`` does; ``keep`` keeps them.
        shuffle: Whether each epoch has its own order.
        noisy_split: Split of which only the noisy images are used, for training and for the validation loss, in place
            of the pairs of ``train`` and ``val``: with ``test``, a method that needs no clean images learns from the
            very images that it will restore. The normalisation is fitted to ``train`` nevertheless.
        neighbours: Planes before and after each plane of a stack that methods see as well; 0 for single planes.
        neighbour_spacing: Largest step from one neighbour to the next in training, in planes; each crop has a random
            one from 1 to this. Afterwards it is 1.
        neighbour_dropout: Probability that a training crop has no neighbours; if it has, the probability of each to be
            missing. The model then also restores single planes and those at the ends of stacks.
        validation_crops: Number of fixed crops on which the validation loss is computed.
        fit_images: Number of training pairs, evenly spaced, to which the normalisation is fitted.
        num_workers: Processes that prepare batches; 0 suffices while pairs are cached in memory.
        cache_gb: Memory for cached pairs of each split, in 10^9 bytes.
        seed: Seed of order, crops and augmentation.

    Attributes:
        name: Name of the data set in results.
        stack_axis: Axis of the stacks in which planes are neighbours: ``z``, ``t``, or empty if it is unknown or there
            are none.
    """

    stack_axis: str = ""
    name: str = "pairs"  # pyright: ignore[reportIncompatibleVariableOverride]  (Lightning allows None)

    def __init__(
        self,
        normalisation: PairNormalisation,
        crop: Count = 256,
        batch_size: Count = 8,
        crops_per_image: Count | None = None,
        augment: bool = True,
        blur: Blur | None = None,
        hot_pixels: Literal["replace", "keep"] = "replace",
        shuffle: bool = True,
        noisy_split: Literal["train", "val", "test"] | None = None,
        neighbours: FromZero = 0,
        neighbour_spacing: Count = 1,
        neighbour_dropout: BelowOne = 0.1,
        validation_crops: Count = 64,
        fit_images: Count = 64,
        num_workers: FromZero = 0,
        cache_gb: NonNegative = 4.0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        for key, value in (("crop", crop), ("batch_size", batch_size), ("fit_images", fit_images)):
            if value < 1:
                raise UserError(f"data.{key}", f"is {value}", allowed="a whole number of at least 1")
        if neighbours and blur:
            raise UserError(
                "data.blur",
                "blurs single planes, but data.neighbours is above 0",
                remedy="leave out one of them",
            )
        self.neighbours = neighbours
        self.choice = NeighbourChoice(neighbours, neighbour_spacing, neighbour_dropout)
        self.normalisation = normalisation
        self.crop, self.batch_size, self.crops_per_image = crop, batch_size, crops_per_image
        self.augment, self.blur, self.hot_pixels = augment, blur, hot_pixels
        self.shuffle, self.noisy_split, self.validation_crops = shuffle, noisy_split, validation_crops
        self.fit_images, self.num_workers, self.cache_gb, self.seed = fit_images, num_workers, cache_gb, seed
        self._splits: dict[str, CachedPairs] = {}
        self._noisy: CachedPairs | None = None
        self._fitted = False

    def source(self, split: str) -> PairSource:
        """Returns the pairs of ``train``, ``val`` or ``test``."""
        raise NotImplementedError(f"{type(self).__name__} does not implement source")

    def notes(self, split: str) -> list[str]:
        """Returns what was ignored or guessed in a split; complete once all of its pairs have been read."""
        return []

    def pairs(self, split: str) -> CachedPairs:
        """Returns the pairs of a split, cached in memory up to the limit.

        Raises:
            UserError: If the split does not exist or is empty.
        """
        if split not in SPLITS:
            raise UserError("split", f"is {split!r}", allowed=", ".join(SPLITS))
        if split not in self._splits:
            source = self.source(split)
            if not len(source):
                raise UserError(f"data set {self.name}", f"has no pairs in its split {split!r}")
            self._splits[split] = self._cached(source)
        return self._splits[split]

    def training_pairs(self, split: str) -> CachedPairs:
        """Returns the pairs that are trained on (``train``) or validated on (``val``); see ``noisy_split``."""
        if self.noisy_split is None:
            return self.pairs(split)
        if self._noisy is None:
            self._noisy = self._cached(NoisyImages(self.pairs(self.noisy_split).planes))
        return self._noisy

    def _cached(self, source: PairSource) -> CachedPairs:
        return CachedPairs(source, self.cache_gb, self.hot_pixels == "keep", self.neighbours)

    def paired(self, split: str) -> bool:
        """Says whether the noisy images of a split have clean partners."""
        pairs = self.pairs(split)
        for index in range(len(pairs)):
            with suppress(UserError):  # a file that cannot be read is reported when it is needed
                return pairs.recorded(index).paired
        return True

    def load_normalisation(self, state: dict[str, Any]) -> None:
        """Uses the fitted normalisation of a checkpoint instead of fitting one."""
        self.normalisation.load_state(state)
        self._fitted = True

    def prepare_normalisation(self) -> None:
        """Fits the normalisation to the training split, once.

        Raises:
            UserError: If it cannot be fitted, because all images are constant.
        """
        if self._fitted:
            return
        train = self.pairs("train")
        chosen = np.unique(np.linspace(0, len(train) - 1, self.fit_images).round().astype(int))
        pairs = [train[int(index)] for index in chosen]
        try:
            self.normalisation.fit([pair.low for pair in pairs], [pair.high for pair in pairs])
        except ValueError as error:
            raise UserError(f"data set {self.name}", str(error)) from error
        self._fitted = True

    def setup(self, stage: str) -> None:
        """Reads the pairs and fits the normalisation; called by Lightning in every process."""
        if stage != "fit":
            return
        # Every pair is read now, so that a damaged file does not end the training after hours. Defects are searched for
        # when an image is first used.
        for split in ("train", "val"):
            pairs = self.training_pairs(split)
            smallest = min(
                (pairs.recorded(index) for index in range(len(pairs))), key=lambda pair: min(pair.low.shape)
            )
            side = min(smallest.low.shape)
            if side < self.crop:
                raise UserError(
                    "data.crop",
                    f"is {self.crop}, but pair {smallest.name} of {split} is only {side} pixels on a side",
                    remedy=f"set data.crop={max(side // 8 * 8, 1)} or less, or leave the pair out",
                )
        self._check_neighbours()
        self.prepare_normalisation()

    def _check_neighbours(self) -> None:
        """Raises a UserError if no training image has a neighbour."""
        planes = self.training_pairs("train")
        found = (planes.neighbour(index, 1) is not None for index in range(len(planes)))
        if self.neighbours and not any(found):
            raise UserError(
                f"data.neighbours={self.neighbours}",
                f"but the data set {self.name} has no stacks",
                allowed="files with several planes along z or t, or a simulated volume or movie",
                remedy="leave it out to train on single planes",
            )

    def train_dataloader(self) -> DataLoader:
        """Returns batches of crops; see :meth:`CropDataset.__getitems__`."""
        pairs = self.training_pairs("train")
        crops = self.crops_per_image or max(1, math.prod(pairs.recorded(0).low.shape) // self.crop**2)
        dataset = CropDataset(
            pairs, self.normalisation, self.crop, crops, self.augment, self.seed, self.blur, self.choice
        )
        trainer = self.trainer
        sampler = KeyedBatchSampler(
            len(dataset),
            self.batch_size,
            self.shuffle,
            self.seed,
            rank=trainer.global_rank if trainer else 0,
            processes=trainer.world_size if trainer else 1,
            position=lambda: _batches_seen(trainer),
        )
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=already_collated,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            # Copies to a GPU then do not wait for it.
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )

    def val_dataloader(self) -> DataLoader:
        """Returns the fixed validation crops; each of n processes takes every n-th of them."""
        pairs = self.training_pairs("val")
        crops = math.ceil(self.validation_crops / len(pairs))
        dataset = CropDataset(
            pairs,
            self.normalisation,
            self.crop,
            crops,
            augment=False,
            seed=0,
            neighbours=NeighbourChoice(self.neighbours),
        )
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        # Distributed first over all images, whatever the number of crops, and then over the processes.
        order = [image * crops + crop for crop in range(crops) for image in range(len(pairs))]
        chosen = order[: max(self.validation_crops, 1)][rank::processes]
        batches = [chosen[k : k + self.batch_size] for k in range(0, len(chosen), self.batch_size)]
        return DataLoader(dataset, batch_sampler=batches, collate_fn=already_collated)


def _batches_seen(trainer: lightning.Trainer | None) -> int:
    """Returns the number of batches that a run has seen."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.state_dict()["processed"] if trainer else 0
