"""Restores clean images with noise whose correlation, strength and cause are known.

python -m experiments.correlated_noise.run --pairs DIR
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.inference.restorer import Restorer
from experiments import common, vst_bm3d
from experiments.correlated_noise.mechanisms import MECHANISMS, degraded
from experiments.correlated_noise.specimens import clean_images

#: Clean images, in a folder ``high``.
REAL = "fmd-confocal-clean"
#: Photons at the brightest structures (99.5th percentile); and electrons of read noise.
PHOTONS, READ_NOISE = (100, 25, 6), 1.0
CORRELATIONS = (0.2, 0.4, 0.6)
NONE = "none"
#: Grey values per photon, and without light: rounding adds next to nothing.
GAIN, OFFSET = 20.0, 200.0
SIZES = {"small": {"images": 32, "side": 128}, "full": {"images": 32, "side": 224}}
METHODS = ("raw", "best blur", "VST + BM3D", "default")
#: A clear gain, in dB.
AIM = 0.5


#: What the model is compared with.
COMPARED = ("best blur", "VST + BM3D")


class Cell(NamedTuple):
    """What an image is degraded by."""

    photons: int
    mechanism: str
    correlation: float

    def degrade(self, clean: np.ndarray, name: str, side: int) -> Pair:
        """Returns the noisy image and its expectation, the central part of both.

        Noise depends on the image and its light alone, so that all mechanisms act on the same noise.
        """
        rng = np.random.default_rng([self.photons, *name.encode()])
        expected = self.photons * clean.astype(np.float64)
        noise = rng.poisson(expected) + READ_NOISE * rng.normal(size=clean.shape) - expected
        noisy, expected = degraded(self.mechanism, self.correlation, expected, noise)
        middle = tuple(slice((n - side) // 2, (n - side) // 2 + side) for n in noisy.shape)
        low = np.clip(np.rint(OFFSET + GAIN * noisy[middle]), 0, 65535).astype(np.uint16)
        return Pair(low, (OFFSET + GAIN * expected[middle]).astype(np.float32), name, field=name)


#: Rows by cell and method, then by image.
Found = Mapping[tuple[Cell, str], Mapping[str, Mapping[str, str]]]
CELLS = [
    Cell(photons, mechanism, correlation)
    for photons in PHOTONS
    for mechanism, correlation in [(NONE, 0.0), *((m, c) for m in MECHANISMS for c in CORRELATIONS)]
]


def measure(options: common.Options) -> None:
    """Adds the rows of each image; those of the model are in a table of their own, to be renewed with it."""
    same = {"side": options.size["side"], "pairs": REAL in options.pairs}
    classical = common.Rows(options.work / "classical.csv", same, ("image", "method"))
    model = Restorer.load(options.model, bfloat16="auto")
    settings = {**same, "model": model.trained.sha256}
    of_model = common.Rows(options.work / "model.csv", settings, ("image", "method"))
    if not vst_bm3d.installed():
        print("VST + BM3D is left out: install the extra `benchmarks`", flush=True)
    for number, (name, clean) in enumerate(clean_images(options.pairs.get(REAL))):
        if number == options.size["images"]:
            break
        pairs = {cell: cell.degrade(clean, name, options.size["side"]) for cell in CELLS}
        add(classical, name, "raw", pairs, lambda pair: (common.psnr_of(pair.low, pair.high), ""))
        add(classical, name, "best blur", pairs, lambda pair: (max(blurs(pair)), ""))
        add(of_model, name, "default", pairs, lambda pair: _by_model(model, pair))
        if vst_bm3d.installed():
            add(
                classical,
                name,
                "VST + BM3D",
                pairs,
                lambda pair: (common.psnr_of(vst_bm3d.vst_bm3d(pair.low), pair.high), ""),
            )


def add(
    rows: common.Rows,
    name: str,
    method: str,
    pairs: Mapping[Cell, Pair],
    scored: Callable[[Pair], tuple[float, str]],
) -> None:
    """Adds the rows of an image and a method: PSNR and warnings in each cell."""
    if not rows.has(image=name, method=method):
        found = {cell: scored(pair) for cell, pair in pairs.items()}
        rows.add(
            [
                {"image": name, "method": method, **cell._asdict(), "psnr": psnr, "warned": warned}
                for cell, (psnr, warned) in found.items()
            ]
        )


def blurs(pair: Pair) -> Iterator[float]:
    """Yields the PSNR of blurred images."""
    for image in common.blurred(pair.low):
        yield common.psnr_of(image, pair.high)


def _by_model(model: Restorer, pair: Pair) -> tuple[float, str]:
    restored = model.restore(pair.low, image=pair.name)
    return common.psnr_of(restored.mean, pair.high), "; ".join(restored.warnings)


def report(folder: Path) -> Mapping[str, str]:
    """Returns the tables by name."""
    rows = [row for path in sorted((folder / "results").glob("*.csv")) for row in common.read(path)]
    methods = [method for method in METHODS if any(row["method"] == method for row in rows)]
    of_method = [{row["image"] for row in rows if row["method"] == method} for method in methods]
    images = set.intersection(*of_method)  # those that all methods have restored
    found: dict[tuple[Cell, str], dict[str, dict[str, str]]] = {}
    for row in rows:
        if row["image"] in images:
            cell = Cell(int(row["photons"]), row["mechanism"], float(row["correlation"]))
            found.setdefault((cell, row["method"]), {})[row["image"]] = row
    return {
        "cells": cells(found, methods),
        "summary": summary(found, methods, len(images)),
        "warnings": warnings(found),
    }


def _mean(rows: Mapping[str, Mapping[str, str]]) -> float:
    return float(np.mean([float(row["psnr"]) for row in rows.values()]))


def cells(found: Found, methods: Sequence[str]) -> str:
    """Returns the mean PSNR in each cell, what the model gains, and how often it warns."""
    lines = []
    for cell in CELLS:
        means = {method: _mean(found[cell, method]) for method in methods}
        warned = sum(bool(row["warned"]) for row in found[cell, "default"].values())
        others = [f"{means['default'] - means[method]:+.2f}" for method in methods if method in COMPARED]
        lines.append([*cell, *(f"{means[method]:.2f}" for method in methods), *others, warned])
    gains = [f"default less {method}" for method in methods if method in COMPARED]
    return common.table(["photons", "cause", "correlation", *methods, *gains, "warned"], lines)


def summary(found: Found, methods: Sequence[str], images: int) -> str:
    """Returns in how many cells the model is better than each method, and where it is worst."""
    lines = []
    for method in (method for method in methods if method in COMPARED):
        gains = {cell: _mean(found[cell, "default"]) - _mean(found[cell, method]) for cell in CELLS}
        least = min(CELLS, key=gains.__getitem__)
        above, clearly = sum(gain > 0 for gain in gains.values()), sum(gain >= AIM for gain in gains.values())
        worst = f"{gains[least]:+.2f} dB: {least.photons} photons, {least.mechanism}, {least.correlation}"
        lines.append([method, images, len(CELLS), above, clearly, worst])
    header = ["compared with", "images", "cells", "cells above", f"cells {AIM} dB above", "worst cell"]
    return common.table(header, lines)


def warnings(found: Found) -> str:
    """Returns how many results are below or above the best blur for that image, and how many of them have a warning."""
    sides: dict[str, list[bool]] = {"below": [], "above": []}
    for cell in CELLS:
        for image, row in found[cell, "default"].items():
            side = "below" if float(row["psnr"]) < float(found[cell, "best blur"][image]["psnr"]) else "above"
            sides[side].append(bool(row["warned"]))
    lines = [[side, len(warned), sum(warned)] for side, warned in sides.items()]
    return common.table(["compared with its best blur", "results", "with a warning"], lines)


if __name__ == "__main__":
    common.run("correlated_noise", SIZES, measure, report)
