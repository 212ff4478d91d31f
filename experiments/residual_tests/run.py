"""Counts how often a warning appears where a restoration is worse than the best blur, and where it is not.

python -m experiments.residual_tests.run --pairs DIR…

The folder ``fmd-confocal-clean`` contains clean images, to which noise is added; the others contain pairs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.datasets.simulated_denoising import RandomMicroscopePairs
from ddpm_lightning.inference.residual_check import MOST_NOISE, ResidualCheck, sentences_of
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.metrics.noise_model import fit_noise
from ddpm_lightning.metrics.residual_tests import ResidualTests
from ddpm_lightning.simulation.random_processing import RandomProcessing
from ddpm_lightning.simulation.simple_structures import SIMPLE_STRUCTURES
from ddpm_lightning.simulation.specimens import SPECIMENS
from experiments import common
from experiments.correlated_noise.run import CELLS, REAL
from experiments.correlated_noise.specimens import clean_images

#: Images of each split of a real set and of each half of the simulated set; of the combinations of a clean image and
#: added noise, one of ``every``.
SIZES = {
    "small": {"real": 6, "simulated": 100, "every": 11},
    "full": {"real": 200, "simulated": 200, "every": 1},
}
SIDE = 224
SIMULATED, ADDED = "simulated_denoising", "added noise"
#: Seed of the simulated images, other than those of the training.
SEED = 2000
LEFT, REMOVED = "noise left", "structure removed"
#: Planted puncta: how many, their blur in pixels, and their height in standard deviations of the noise.
PUNCTA, PUNCTUM, HEIGHT = 20, 1.4, 4.0
#: Blur in pixels of a restoration that smooths too much, and by how many dB it is then below the best blur.
SMOOTHED, WORSE = 3.0, 2.0
#: Differences in dB beyond which a restoration is clearly better or worse.
CLEAR = 0.3
#: Limits of the noise that is left, relative to that of the best blur.
LIMITS = (0.2, MOST_NOISE, 0.3, 0.4, 0.6, 1.0)

Row = Mapping[str, str]


class File(NamedTuple):
    """A noisy image, its clean version, and where they come from; ``calibration`` or ``test``."""

    half: str
    set: str
    cause: str
    pair: Pair


def files(options: common.Options) -> Iterator[File]:
    """Yields all files in a fixed order: first those on which the limits of the warnings were chosen."""
    kinds, count = [*SPECIMENS, *SIMPLE_STRUCTURES], options.size["simulated"]
    for half, split in (("calibration", "val"), ("test", "test")):
        source = RandomMicroscopePairs(kinds, split, count, SIDE, SEED, processing=RandomProcessing())
        yield from (File(half, SIMULATED, "", source[index]) for index in range(count))
    for name, folder in options.pairs.items():
        for split in SPLITS if name != REAL else ():
            if (folder / split).is_dir():
                source = CenterCrops(common.real(folder, split), SIDE)
                for pair in common.evenly_spaced(source, options.size["real"]):
                    yield File("test", name, split, pair)
    for image, (name, clean) in enumerate(clean_images(options.pairs.get(REAL))):
        for number, cell in enumerate(CELLS):
            if (image + number) % options.size["every"] == 0:
                cause = f"{cell.mechanism} {cell.correlation}, {cell.photons} photons"
                yield File("test", ADDED, cause, cell.degrade(clean, name, SIDE))


def measure(options: common.Options) -> None:
    """Adds a row for each file."""
    model = common.loaded(options, options.model)
    settings = {**options.size, "model": model.trained.sha256, "sets": list(options.pairs)}
    key = ("half", "set", "cause", "image")
    rows = common.Rows(options.work / "residual_tests.csv", settings, key)
    for number, (half, name, cause, pair) in enumerate(files(options)):
        about = {"half": half, "set": name, "cause": cause, "image": pair.name}
        if not rows.has(**about):
            rows.add([{**about, **tested(model, pair, number)}])


def tested(model: Restorer, pair: Pair, seed: int) -> dict[str, Any]:
    """Returns how good a restoration is, which warnings it has, and whether planted failures of it are found."""
    restored = model.restore(pair.low, image=pair.name)
    blurred = max(common.psnr_of(image, pair.high) for image in common.blurred(pair.low))
    low = model.prepared(np.ascontiguousarray(pair.low)).plane.astype(np.float64)
    smoothed = gaussian_filter(low, SMOOTHED)
    found = ResidualCheck.test(low, restored.mean)
    return {
        "gain": common.psnr_of(restored.mean, pair.high) - blurred,
        "warnings": ", ".join(
            kind for kind, colon, _ in (w.partition(":") for w in restored.warnings) if colon
        ),
        "half_kept": LEFT in _kinds(low, (low + restored.mean) / 2),
        "puncta_removed": REMOVED in _kinds(_with_puncta(low, restored.mean, seed), restored.mean),
        "smoothed": REMOVED in _kinds(low, smoothed),
        "gain_of_smoothed": common.psnr_of(smoothed, pair.high) - blurred,
        **{field.name: getattr(found, field.name, "") for field in fields(ResidualTests)},
    }


def _kinds(low: np.ndarray, restored: np.ndarray) -> set[str]:
    """Returns the kinds of the warnings about a residual."""
    found = ResidualCheck.test(low, restored)
    return set(sentences_of(found)) if found else set()


def _with_puncta(low: np.ndarray, restored: np.ndarray, seed: int) -> np.ndarray:
    """Returns a noisy image with puncta that its restoration lacks."""
    noise = fit_noise(low, restored)
    if noise is None:
        return low
    points = np.zeros(low.shape)
    points[tuple(np.random.default_rng(seed).integers(8, min(low.shape) - 8, (2, PUNCTA)))] = 1
    spots = gaussian_filter(points, PUNCTUM)
    return low + HEIGHT * spots / spots.max() * np.sqrt(noise.variance(restored))


def report(folder: Path) -> Mapping[str, str]:
    """Returns the tables by name."""
    rows = common.read(folder / "results" / "residual_tests.csv")
    test = [row for row in rows if row["half"] == "test"]
    groups = {
        "calibration: simulated": [row for row in rows if row["half"] == "calibration"],
        "test: simulated": [row for row in test if row["set"] == SIMULATED],
        "test: added noise": [row for row in test if row["set"] == ADDED],
        "test: real": [row for row in test if row["set"] not in (SIMULATED, ADDED)],
        "test: all": test,
    }
    return {
        "warnings": _table_of_warnings(groups, of_residual),
        "all_warnings": _table_of_warnings({"test: all": test}, lambda row: bool(row["warnings"])),
        "sets": _table_of_sets(test),
        "planted": _table_of_planted(groups),
        "limits": _table_of_limits(groups),
    }


def of_residual(row: Row) -> bool:
    """Whether a file has a warning about its residual."""
    return LEFT in row["warnings"] or REMOVED in row["warnings"]


def _rate(rows: Sequence[Row], warned: Callable[[Row], bool]) -> str:
    """Returns how many files have a warning."""
    count = sum(map(warned, rows))
    return f"{count} of {len(rows)} ({count / len(rows):.1%})" if rows else "none"


def _table_of_warnings(groups: Mapping[str, Sequence[Row]], warned: Callable[[Row], bool]) -> str:
    bands: dict[str, Callable[[float], bool]] = {
        "below it": lambda gain: gain < 0,
        f"below it by more than {CLEAR} dB": lambda gain: gain < -CLEAR,
        "not below it": lambda gain: gain >= 0,
        f"above it by more than {CLEAR} dB": lambda gain: gain > CLEAR,
    }
    body = [
        [
            name,
            *(
                _rate([row for row in rows if inside(float(row["gain"]))], warned)
                for inside in bands.values()
            ),
        ]
        for name, rows in groups.items()
    ]
    return common.table(["files", *bands], body)


def _table_of_sets(rows: Sequence[Row]) -> str:
    sets: dict[str, list[Row]] = {}
    for row in rows:
        cause = f", {row['cause'].partition(',')[0]}" if row["set"] == ADDED else ""
        sets.setdefault(f"{row['set']}{cause}", []).append(row)
    body = []
    for name, mine in sets.items():
        below, above = ([r for r in mine if (float(r["gain"]) < 0) == side] for side in (True, False))
        gain = f"{np.mean([float(row['gain']) for row in mine]):+.2f}"
        removed = sum(REMOVED in row["warnings"] for row in mine)
        body.append([name, len(mine), gain, _rate(below, of_residual), _rate(above, of_residual), removed])
    header = ["number", "mean gain (dB)", "warned, below", "warned, not below", f"with “{REMOVED}”"]
    return common.table(["files", *header], body)


def _table_of_planted(groups: Mapping[str, Sequence[Row]]) -> str:
    body = []
    for name, rows in groups.items():
        worse = [row for row in rows if float(row["gain_of_smoothed"]) < -WORSE]
        found = ((rows, "half_kept"), (rows, "puncta_removed"), (worse, "smoothed"))
        body.append(
            [name, *(_rate(chosen, lambda row, key=key: row[key] == "True") for chosen, key in found)]
        )
    return common.table(["files", "half of the noise kept", f"{PUNCTA} puncta removed", "smoothed"], body)


def _table_of_limits(groups: Mapping[str, Sequence[Row]]) -> str:
    body = []
    for name in ("calibration: simulated", "test: all"):
        below, above = ([r for r in groups[name] if (float(r["gain"]) < 0) == side] for side in (True, False))
        for limit in LIMITS:
            rates = (
                _rate(rows, lambda row, limit=limit: float(row["noise_ratio"] or 0) > limit)
                for rows in (below, above)
            )
            body.append([name, limit, *rates])
    return common.table(
        ["files", "limit", "above the limit, below the best blur", "above it, not below"], body
    )


if __name__ == "__main__":
    common.run("residual_tests", SIZES, measure, report)
