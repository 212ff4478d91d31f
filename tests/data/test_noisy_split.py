"""Training on the noisy images of a split alone: no clean image of it has any influence."""

import numpy as np
import pytest
import torch

from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.normalise import PairNormalisation, Percentile
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.models.build import build_method
from ddpm_lightning.training.consistency import check_partners
from ddpm_lightning.training.settings import TrainSettings
from ddpm_lightning.utils.errors import UserError

SPLITS = ("train", "val", "test")


class Images:
    """Three pairs of a split; intensities tell the split, and the clean images can be changed."""

    def __init__(self, split, clean):
        self.split, self.clean = split, clean

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rng = np.random.default_rng((SPLITS.index(self.split), index))
        low = 100 * SPLITS.index(self.split) + rng.random((32, 32)).astype(np.float32)
        return Pair(low, low + self.clean, f"{self.split}{index}", f"{index}", extra={"truth": self.clean})


class Data(PairDataModule):
    """Its clean images are by ``clean`` brighter in the split ``test``."""

    def __init__(self, clean=1.0, **settings):
        super().__init__(PairNormalisation(Percentile(), Percentile()), crop=16, batch_size=2, **settings)
        self.clean = clean

    def source(self, split):
        return Images(split, self.clean if split == "test" else 1.0)


def batches(**settings):
    data = Data(**settings)
    data.setup("fit")
    return data, [*data.train_dataloader(), *data.val_dataloader()]


def test_only_noisy_images_of_the_split_are_used_in_training_and_validation():
    data, found = batches(noisy_split="test")
    assert {name[:4] for batch in found for name in batch["name"]} == {"test"}
    pairs = data.training_pairs("train")
    assert not pairs[0].paired and not pairs[0].extra and np.array_equal(pairs[0].high, pairs[0].low)
    _, other = batches(noisy_split="test", clean=500.0)
    for one, two in zip(found, other, strict=True):
        assert torch.equal(one["low"], two["low"]) and torch.equal(one["high"], two["high"])


def test_the_split_keeps_its_clean_images_for_the_evaluation():
    data, _ = batches(noisy_split="test")
    assert data.paired("test") and data.pairs("test")[0].extra
    _, usual = batches()
    assert {name[:3] for batch in usual for name in batch["name"]} == {"tra", "val"}


@pytest.mark.parametrize(("model", "refused"), [("gaussian", True), ("noise2void", False)])
def test_methods_that_need_clean_images_are_refused(model, refused):
    nodes = {
        "gaussian": {
            "_target_": "ddpm_lightning.models.classical.Classical",
            "filter": "gaussian",
            "strengths": [1.0],
        },
        "noise2void": {
            "_target_": "ddpm_lightning.models.noise2void.Noise2Void",
            "network": {"_target_": "ddpm_lightning.networks.unet.UNet", "first_filters": 4},
        },
    }
    trainer = {"max_steps": 1, "accelerator": "cpu"}
    settings = TrainSettings.of({"run_folder": "a", "model": nodes[model], "data": {}, "trainer": trainer})
    data, method = Data(noisy_split="test"), build_method(nodes[model])
    if not refused:
        return check_partners(settings, data, method)
    with pytest.raises(UserError) as error:
        check_partners(settings, data, method)
    assert error.value.subject == "data.noisy_split"
