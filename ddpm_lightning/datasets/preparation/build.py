"""Turns source pairs into crops on disk: registered, padded alike, cropped, split by field of view, and recorded.

Everything is built in ``.partial`` inside the root. A journal there has a line for each finished source pair. An
interrupted run resumes after the last of them, and the result is identical to the last byte. At the end, the splits are
moved to their final place and the manifest is written; without a manifest, nothing is read.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from pydantic import Field
from skimage.filters import threshold_otsu

from ddpm_lightning.data.splits import SPLITS, Split, assign, check_split, differences
from ddpm_lightning.datasets.preparation.files import disk_errors, require_space, write_file, write_json
from ddpm_lightning.datasets.preparation.images import check_pair, encode, read_planes
from ddpm_lightning.datasets.preparation.layouts import FoundPair, check_pattern
from ddpm_lightning.datasets.preparation.manifest import (
    FORMAT,
    MANIFEST,
    LeftOut,
    Manifest,
    MotionRecord,
    Origin,
    PairRecord,
    SourcePair,
)
from ddpm_lightning.datasets.preparation.registration import Registration, find_motion, move, pad_alike
from ddpm_lightning.utils.atomic import DiskError, remove_partials
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count, FromZero, Positive, Side, Text, UnitInterval
from ddpm_lightning.utils.task_progress import Report

__all__ = ["Crop", "Preparation", "build", "cut", "windows"]


@dataclass(frozen=True)
class Preparation:
    """How published images become pairs; the node ``data.preparation``.

    Attributes:
        register: Whether the clean images are moved onto the noisy ones.
        largest_shift: Maximum displacement in pixels of a plausible registration.
        least_correlation: Minimum correlation of a plausible registration.
        size: Side of the crops in pixels.
        crops_per_side: Crops along each side, evenly spaced, overlapping if necessary; by default as many as fit
            without overlap.
        least_foreground: Minimum fraction of a clean crop that is brighter than the threshold of its image (Otsu's);
            other crops are left out as background. 0 keeps all.
        most_saturation: Maximum fraction of saturated pixels of a pair.
        field_pattern: Regular expression whose first group is the field of view in a file name; by default each file
            is one.
        split: Fractions of the fields, or names of fields; see :mod:`ddpm_lightning.data.splits`.
        seed: Seed of the split by fractions.
    """

    register: bool = False
    largest_shift: Positive = 20.0
    least_correlation: Annotated[float, Field(ge=-1, le=1)] = 0.2
    size: Side = 256
    crops_per_side: Count | None = None
    least_foreground: UnitInterval = 0.0
    most_saturation: UnitInterval = 0.25
    field_pattern: Text | None = None
    split: Split = field(default_factory=lambda: {"train": 0.8, "val": 0.1, "test": 0.1})
    seed: FromZero = 0

    def __post_init__(self) -> None:
        """Rejects invalid settings before anything is downloaded."""
        check_pattern(self.field_pattern, "data.preparation.field_pattern")
        check_split(self.split, "data.preparation.split")


class _Entry(SourcePair):
    """A line of the journal: a source pair with its crops, or the reason why it cannot be used."""

    pairs: list[PairRecord]
    background: NotRequired[int]
    reason: NotRequired[str]


@dataclass(frozen=True)
class Crop:
    """A crop of a pair.

    Attributes:
        plane: Plane of the source files.
        window: (top, left, height, width) in pixels.
        low: Degraded image with shape (H, W).
        high: Clean image with shape (H, W).
    """

    plane: int
    window: tuple[int, int, int, int]
    low: np.ndarray
    high: np.ndarray


def windows(
    shape: tuple[int, int], size: int, per_side: int | None = None
) -> list[tuple[int, int, int, int]]:
    """Returns evenly spaced square windows, as (top, left, height, width).

    Args:
        shape: Height and width of the image.
        size: Side of the windows.
        per_side: Windows along each side; by default as many as fit without overlap.
    """
    starts = []
    for side in shape:
        count = per_side or side // size
        starts.append(
            np.linspace(0, side - size, count).round().astype(int) if count > 1 else [(side - size) // 2]
        )
    return [(int(top), int(left), size, size) for top in starts[0] for left in starts[1]]


def cut(
    low: np.ndarray, high: np.ndarray, how: Preparation, registered: bool = False
) -> tuple[list[Crop], Registration | None, int]:
    """Registers and crops the planes of a pair.

    One motion, found on the mean over the planes, moves all of them.

    Args:
        low: Degraded planes with shape (planes, H, W).
        high: Clean planes with the same shape.
        how: Settings.
        registered: Whether they are registered already.

    Returns:
        The crops, the registration if there was one, and the number of crops left out as background.

    Raises:
        ValueError: If the registration is implausible, or the image is smaller than a crop; the text says why.
    """
    if min(low.shape[1:]) < how.size:
        raise ValueError(f"is {low.shape[1]} x {low.shape[2]} pixels, smaller than the crops of {how.size}")
    registration = None
    if how.register and not registered:
        registration = find_motion(low.mean(axis=0), high.mean(axis=0))
        if reason := registration.reason_to_reject(how.largest_shift, how.least_correlation):
            raise ValueError(f"cannot be registered to its partner: {reason}")
    crops, background = [], 0
    for plane, (noisy, clean) in enumerate(zip(low, high, strict=True)):
        if registration and not registration.negligible:
            clean, inside = move(clean, registration.motion)
            noisy = pad_alike(noisy, inside)
        threshold = threshold_otsu(clean) if how.least_foreground > 0 and clean.min() < clean.max() else None
        for window in windows(clean.shape, how.size, how.crops_per_side):
            top, left, height, width = window
            pieces = [image[top : top + height, left : left + width] for image in (noisy, clean)]
            if threshold is not None and (pieces[1] > threshold).mean() < how.least_foreground:
                background += 1
                continue
            crops.append(Crop(plane, window, *pieces))
    return crops, registration, background


def build(
    root: Path,
    folder: Path,
    found: Sequence[FoundPair],
    how: Preparation,
    origin: Origin,
    on_error: str = "skip",
    progress: Report | None = None,
) -> Manifest:
    """Builds the set, or resumes building it.

    Args:
        root: Folder of the prepared set.
        folder: Folder of the source files; their names are recorded relative to it.
        found: Source pairs in a fixed order.
        how: Settings.
        origin: Facts for the manifest.
        on_error: Whether to ``skip`` pairs that cannot be used, or ``stop`` at the first.
        progress: Called after each pair.

    Returns:
        The manifest.

    Raises:
        UserError: If a pair cannot be used under ``stop``, a split is empty, or the disk is full.
    """
    assigned = _assigned(found, how)
    header = {"format": FORMAT, **origin, "settings": asdict(how)}
    names = [_names(pair, folder) for pair in found]
    journal = _Journal(root / ".partial", {**header, "pairs": names}, origin["pixel_size"])
    read = lru_cache(maxsize=2)(read_planes)
    for number, pair in enumerate(found):
        if number >= len(journal.entries):
            try:
                low, high = read(pair.low), read(pair.high)
                check_pair(low, high, pair.low, pair.high, how.most_saturation)
                if number == 0:
                    require_space(root, (low.nbytes + high.nbytes) * len(found), "the prepared set")
                entry = journal.write(low, high, pair, folder, assigned[number], how)
            except DiskError:
                raise
            except UserError as error:
                if on_error == "stop":
                    raise
                reason = error.found.replace(str(folder) + os.sep, "")
                entry = _Entry(**names[number], reason=reason, pairs=[])
            journal.add(entry)
        if progress:
            progress("preparing", number + 1, len(found))
    pairs = [record for entry in journal.entries for record in entry["pairs"]]
    counts = Counter(record["split"] for record in pairs)
    left_out = [
        LeftOut(low=entry["low"], high=entry["high"], field=entry["field"], reason=entry["reason"])
        for entry in journal.entries
        if "reason" in entry
    ]
    for split in SPLITS:
        if not counts[split]:
            raise UserError(
                f"data set {origin['data']}",
                f"nothing is left for its split {split!r}: {len(left_out)} of {len(found)} pairs could not be used"
                + (f"; the first: {left_out[0]['low']} {left_out[0]['reason']}" if left_out else ""),
                remedy="fix the files, or change data.preparation",
            )
    manifest = Manifest(
        format=FORMAT,
        **origin,
        settings=asdict(how),
        counts={split: counts[split] for split in SPLITS},
        differences=differences(counts, origin["published"]),
        background_crops=sum(entry.get("background", 0) for entry in journal.entries),
        left_out=left_out,
        pairs=sorted(pairs, key=lambda record: (SPLITS.index(record["split"]), record["name"])),
    )
    journal.finish(root, manifest)
    return manifest


def _assigned(found: Sequence[FoundPair], how: Preparation) -> list[str]:
    """Returns the split of each pair: the published one, else that of its field."""
    key = "data.preparation.split"
    open_fields = [pair.field for pair in found if pair.split is None]
    by_field = assign(open_fields, how.split, how.seed, key) if open_fields else {}
    assigned = [pair.split or by_field[pair.field] for pair in found]
    for split in SPLITS:
        if split not in assigned:
            raise UserError(
                key,
                f"leaves the split {split!r} without any field of view",
                allowed=f"at least one field for each of {', '.join(SPLITS)}",
                remedy=f"name one, data.preparation.split.{split}=[{found[0].field}], or give it a fraction",
            )
    return assigned


def _names(pair: FoundPair, folder: Path) -> SourcePair:
    low, high = (path.relative_to(folder).as_posix() for path in (pair.low, pair.high))
    return SourcePair(low=low, high=high, field=pair.field)


class _Journal:
    """The finished source pairs, one per line; the first line is a header.

    Args:
        folder: Folder in which the set is built.
        header: Everything that determines the result; a journal with another header is removed with everything built.
        pixel_size: Size of a pixel in µm, or ``None`` if unknown.
    """

    def __init__(self, folder: Path, header: dict[str, Any], pixel_size: float | None) -> None:
        self.folder, self.path, self.pixel_size = folder, folder / "journal.jsonl", pixel_size
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
        # The last line may have been cut off by the interruption.
        lines = [line for line in lines if line.endswith(b"\n")]
        first = (json.dumps(header, sort_keys=True) + "\n").encode()
        if not lines or lines[0] != first:
            shutil.rmtree(folder, ignore_errors=True)
            lines = [first]
        remove_partials(folder.glob("*/*"))
        write_file(self.path, b"".join(lines))
        self.entries: list[_Entry] = [json.loads(line) for line in lines[1:]]
        self.counts = Counter(record["split"] for entry in self.entries for record in entry["pairs"])

    def write(
        self, low: np.ndarray, high: np.ndarray, pair: FoundPair, folder: Path, split: str, how: Preparation
    ) -> _Entry:
        """Writes the crops of a pair and returns its line."""
        try:
            crops, registration, background = cut(low, high, how, pair.registered)
        except ValueError as error:
            raise UserError(
                pair.low,
                str(error),
                remedy="fix or remove the pair, or change data.preparation (largest_shift, least_correlation, size)",
            ) from error
        names, motion = _names(pair, folder), _motion(registration)
        records: list[PairRecord] = []
        for number, crop in enumerate(crops, self.counts[split]):
            name, hashes = f"{number:05d}", {}
            for role, image in (("low", crop.low), ("high", crop.high)):
                content = encode(image, self.pixel_size)
                write_file(self.folder / split / role / f"{name}.tif", content)
                hashes[role] = hashlib.sha256(content).hexdigest()
            records.append(
                PairRecord(
                    split=split,
                    name=name,
                    **names,
                    plane=crop.plane,
                    crop=crop.window,
                    motion=motion,
                    sha256=hashes,
                )
            )
        return _Entry(**names, background=background, pairs=records)

    def add(self, entry: _Entry) -> None:
        """Writes the line of a pair after all of its files."""
        with disk_errors(self.path), self.path.open("ab") as file:
            file.write((json.dumps(entry) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        self.entries.append(entry)
        self.counts.update(record["split"] for record in entry["pairs"])

    def finish(self, root: Path, manifest: Manifest) -> None:
        """Moves the splits to their final place and writes the manifest; can be interrupted and repeated."""
        with disk_errors(root):
            (root / MANIFEST).unlink(missing_ok=True)
            for split in SPLITS:
                if (self.folder / split).is_dir():
                    shutil.rmtree(root / split, ignore_errors=True)
                    (self.folder / split).replace(root / split)
            write_json(root / MANIFEST, manifest)
            shutil.rmtree(self.folder)


def _motion(registration: Registration | None) -> MotionRecord | None:
    if registration is None:
        return None
    motion = registration.motion
    return MotionRecord(
        down=round(motion.down, 4),
        right=round(motion.right, 4),
        angle=round(motion.angle, 5),
        correlation=[round(registration.before, 4), round(registration.after, 4)],
        applied=not registration.negligible,
    )
