"""The audit finds what was planted (leaks, repeats, saturation, shifts, padding, bad files) and nothing else."""

import re

import numpy as np
import pytest

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.datasets.audit import audit
from ddpm_lightning.datasets.audit_report import markdown, write_audit
from ddpm_lightning.datasets.folder import FolderPairs
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.utils.errors import UserError
from tests.datasets.miniatures import blobs

SPLITS = ("train", "val", "test")


def make(split, count, size=64):
    """Returns pairs of different fields, unlike those of the other splits."""
    seeds = [1000 * SPLITS.index(split) + number for number in range(count)]
    return [
        Pair(*blobs(seed, (size, size)), name=f"{number:05d}", field=f"{split}{number}", pixel_size=0.1)
        for number, seed in enumerate(seeds)
    ]


@pytest.fixture
def sources():
    return {split: make(split, count) for split, count in (("train", 5), ("val", 3), ("test", 4))}


def put(pair, **changes):
    return Pair(**{**pair.__dict__, **changes})


def test_a_clean_set_gives_measurements_and_no_complaint(sources):
    result = audit(sources)
    assert result.errors == [] and result.warnings == []
    train = result.splits["train"]
    lows = np.stack([pair.low for pair in sources["train"]])
    highs = np.stack([pair.high for pair in sources["train"]])
    assert (train.pairs, train.fields, train.sizes, train.types) == (5, 5, [(64, 64)], ("uint8", "uint8"))
    assert train.low[::2] == (lows.min(), lows.max()) and train.high[::2] == (highs.min(), highs.max())
    assert train.low[1] == np.median(np.median(lows, axis=(1, 2)))
    expected = [np.corrcoef(low.ravel(), high.ravel())[0, 1] for low, high in zip(lows, highs, strict=True)]
    assert train.correlation == pytest.approx(np.median(expected), abs=1e-5)
    assert train.levels == int(np.median([len(np.unique(low)) for low in lows]))
    assert len(train.shifts) == 5 and max(train.shifts) < 0.5


def leak_field(sources):
    sources["test"][0] = put(sources["test"][0], field="train1")
    return "errors", "fields of view are in more than one split: train1"


def leak_image(sources):
    sources["val"][1] = put(sources["val"][1], high=sources["train"][2].high)
    return "errors", "the same image is in two splits: train/high/00002, val/high/00001"


def leak_look_alike(sources):
    high = sources["train"][2].high
    sources["test"][1] = put(sources["test"][1], high=np.where(high > high.min(), high - 1, high))
    return (
        "warnings",
        "train and test contain 1 images that look the same: train/high/00002 and test/high/00001",
    )


def repeat(sources):
    sources["train"][4] = put(sources["train"][4], low=sources["train"][0].low)
    return "warnings", "more than once: train/low/00000, train/low/00004"


def saturate(sources):
    low = sources["val"][0].low.copy()
    low[:4] = 255
    sources["val"][0] = put(sources["val"][0], low=low)
    return "warnings", "val: saturated in more than 1 % of their pixels: 1 of 3 pairs (00000)"


def shift(sources):
    sources["test"][2] = put(sources["test"][2], high=np.roll(sources["test"][2].high, 2, axis=0))
    return "warnings", "test: shifted by more than 0.5 px relative to their partner: 1 of 4 pairs (00002)"


def mismatch(sources):
    sources["train"][3] = put(sources["train"][3], high=blobs(77, (64, 64))[1])
    return "warnings", "train: correlated with their partner by less than 0.1: 1 of 5 pairs (00003)"


def pad(sources):
    high = sources["val"][2].high.copy()
    high[:, :3] = 0
    sources["val"][2] = put(sources["val"][2], high=high)
    return "warnings", "val: padded with zeros in one image only: 1 of 3 pairs (00002)"


def deepen(sources):
    sources["test"][3] = put(sources["test"][3], high=sources["test"][3].high.astype(np.uint16))
    return "warnings", "test: pixel types differ"


def thin_out(sources):
    sources["test"] = sources["test"][:1]
    return "warnings", "test: contains only 1 field of view"


@pytest.mark.parametrize(
    "plant",
    [leak_field, leak_image, leak_look_alike, repeat, saturate, shift, mismatch, pad, deepen, thin_out],
)
def test_what_was_planted_is_found(plant, sources):
    kind, words = plant(sources)
    result = audit(sources)
    assert any(words in text for text in getattr(result, kind)), (result.errors, result.warnings)


def test_files_of_the_same_name_are_no_leak_unless_fields_are_known(sources):
    unknown = {split: [put(pair, field=pair.name) for pair in pairs] for split, pairs in sources.items()}
    result = audit(unknown)
    assert result.errors == [] and not result.splits["train"].fields_known
    assert "5 (not known: each file is one)" in markdown("set", result)


def test_padding_of_both_images_and_dark_borders_are_fine(sources):
    for role, pair in zip(("both", "dark"), sources["train"], strict=False):
        low, high = pair.low.copy(), pair.high.copy()
        low[:3] = 0  # few photons leave dark borders in the low image, whose zeros are many
        if role == "both":
            high[:3] = 0
        sources["train"][int(pair.name)] = put(pair, low=low, high=high)
    assert audit(sources).warnings == []


def test_captures_of_one_field_may_share_their_target(sources):
    first = sources["train"][0]
    low = np.random.default_rng(0).poisson(first.high / 4).astype(np.uint8)
    sources["train"].append(put(first, low=low, name="00005"))
    assert audit(sources).warnings == []


def test_bad_pairs_do_not_end_the_audit(pair_folder):
    path = pair_folder / "train/low/00001.tif"
    path.write_bytes(path.read_bytes()[:3000])
    sources = {split: FolderPairs(pair_folder, split) for split in SPLITS}
    result = audit(sources)
    assert len(result.errors) == 1 and "00001.tif" in result.errors[0] and result.splits["train"].pairs == 3


class Empty:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise UserError(f"pair {index}", "cannot be read")


def test_a_split_without_a_single_pair_is_an_error(sources, tmp_path):
    result = audit({**sources, "val": Empty()})
    assert result.errors[-1] == "val: contains no pair that can be used" and "val" not in result.splits
    write_audit(tmp_path, "set", result, {**sources, "val": Empty()})
    assert (tmp_path / "audit.png").is_file()


def test_the_report_describes_what_was_measured_and_how(sources, tmp_path):
    shift(sources)
    manifest = {
        "source": {"name": "set.tar", "sha256": "abc"},
        "settings": {"register": True, "size": 64},
        "pairs": [{"motion": {"down": 3.0, "right": 4.0, "angle": 0.5, "applied": True}}, {"motion": None}],
        "background_crops": 2,
        "left_out": [{"low": "a.png", "high": "b.png", "reason": "is constant"}],
        "published": {"train": 9},
        "differences": ["train: 5 pairs, published are 9 (-4)"],
    }
    path = write_audit(tmp_path, "my set", audit(sources), sources, "- licence: not known", manifest)
    text = path.read_text()
    for words in (
        "# my set",
        "- licence: not known",
        "| pairs | 5 | 3 | 4 |",
        "| size (px) | 64 x 64 | 64 x 64 | 64 x 64 |",
        "- made from set.tar (sha256 abc)",
        "1 of 1 pairs were moved; shift 5.00 px (median), 5.00 px (maximum); angle at most 0.50°",
        "- a.png: is constant",
        "- train: 5 pairs, published are 9 (-4)",
        "test: shifted by more than 0.5 px",
        "![low and high images of each split](audit.png)",
    ):
        assert words in text
    assert re.search(r"\| bits in use, low / high \| \d / \d", text)
    assert (tmp_path / "audit.png").read_bytes().startswith(b"\x89PNG")


def test_simulated_sets_pass_their_own_audit():
    sources = {split: SimulatedPairs("microtubules", split, 3, 64, extras=False) for split in SPLITS}
    result = audit(sources)
    assert result.errors == [] and "simulated" in markdown("simulated_microtubules", result)
