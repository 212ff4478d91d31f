"""Counts how often a warning is there where a restoration is worse than the best blur, and where it is not.

python -m experiments.residual_tests.run --size small --pairs DIR…

A folder without pairs, only ``high/``, is one of clean images, to which noise is added.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ddpm_lightning.inference.residual_check import sentences_of
from ddpm_lightning.metrics.noise_model import fit_noise
from ddpm_lightning.metrics.residual_tests import ResidualTests, examine_residual
from experiments import common
from experiments.default_model.run import SIGMAS
from experiments.residual_tests import cases

SIZES = {"small": {"images": 14, "simulated": 24}, "full": {"images": 100, "simulated": 64}}
#: Planted puncta: how many, their blur in pixels, and their height in standard deviations of the noise.
PUNCTA, PUNCTUM, HEIGHT = 20, 1.4, 4.0
#: Differences in dB beyond which a restoration is clearly better or worse.
CLEAR = 0.3
ADDED = "added noise"


def all_cases(options: common.Options) -> Iterator[cases.Case]:
    """Yields all cases in a fixed order."""
    clean = None
    for name, folder in options.pairs.items():
        if (folder / "high").is_dir():
            clean = folder
        else:
            yield from cases.real_cases(name, folder, options.size["images"])
    yield from cases.simulated_cases(options.size["simulated"])
    seed = 0
    for half, name, image in cases.clean_images(clean):
        for correlation in cases.CORRELATIONS:
            for mechanism in cases.MECHANISMS if correlation else ("independent",):
                for strength in cases.STRENGTHS:
                    seed += 1
                    low = cases.noisy(image, mechanism, correlation, strength, seed)
                    about = f"{name}/{mechanism}/{correlation}/{strength}"
                    yield cases.Case(ADDED, half, about, low, image)


def measure(options: common.Options) -> None:
    """Adds a row for each file."""
    model = common.Restorer.load(options.model, preset="one_step", bfloat16="auto")
    settings = {**options.size, "model": model.trained.sha256, "sets": list(options.pairs)}
    rows = common.Rows(options.work / "residual_tests.csv", settings, ("set", "half", "image"))
    for number, case in enumerate(all_cases(options)):
        if rows.has(set=case.set, half=case.half, image=case.image):
            continue
        restored = model.restore_plane(np.ascontiguousarray(case.low), image=case.image).mean
        blurs = [gaussian_filter(case.low.astype(np.float32), sigma) for sigma in SIGMAS]
        gain = _psnr(restored, case.high) - max(_psnr(blurred, case.high) for blurred in blurs)
        about = {"set": case.set, "half": case.half, "image": case.image, "gain": gain}
        rows.add([{**about, **tested(case.low, restored, number)}])


def tested(low: np.ndarray, restored: np.ndarray, seed: int) -> dict[str, Any]:
    """Returns what is found in a restoration and in two planted failures of it."""
    low = low.astype(np.float64)
    found, half = examine_residual(low, restored), examine_residual(low, (low + restored) / 2)
    noise = fit_noise(low, restored)
    if found is None or half is None or noise is None:
        return {}
    points = np.zeros(low.shape)
    places = np.random.default_rng(seed).integers(8, min(low.shape) - 8, (2, PUNCTA))
    points[tuple(places)] = 1
    spots = gaussian_filter(points, PUNCTUM)
    added = low + HEIGHT * spots / spots.max() * np.sqrt(noise.variance(restored))
    puncta = examine_residual(added, restored)
    return {
        **asdict(found),
        "half_left": half.noise_left,
        "puncta_found": puncta.spots if puncta else 0,
        "puncta_measurable": bool(puncta and puncta.measurable),
    }


def _psnr(image: np.ndarray, high: np.ndarray) -> float:
    """Returns the PSNR with a fit of gain and offset, but for a constant that is the same for all versions."""
    image, high = image.astype(np.float64), high.astype(np.float64)
    centred = image - image.mean()
    gain = max((centred * high).mean() / max(np.square(centred).mean(), 1e-12), 0)
    return float(-10 * np.log10(np.square(gain * centred + high.mean() - high).mean()))


def report(folder: Path) -> Mapping[str, str]:
    """Returns the tables by name."""
    rows = common.read(folder / "results" / "residual_tests.csv")
    return {
        "warnings": _table_of_warnings(rows),
        "sets": _table_of_sets(rows),
        "planted": _table_of_planted(rows),
    }


def _found(row: Mapping[str, str]) -> ResidualTests:
    values = {field.name: row[field.name] for field in fields(ResidualTests)}
    numbers = {name: float(value) for name, value in values.items() if name not in ("measurable", "spots")}
    return ResidualTests(**numbers, measurable=values["measurable"] == "True", spots=int(values["spots"]))


def _rate(rows: list[dict[str, str]]) -> str:
    """Returns how many files of a list have a warning."""
    warned = sum(bool(sentences_of(_found(row))) for row in rows)
    return f"{warned} of {len(rows)} ({warned / len(rows):.1%})" if rows else "none"


def _table_of_warnings(rows: list[dict[str, str]]) -> str:
    bands = {
        "below it": lambda gain: gain < 0,
        f"below it by more than {CLEAR} dB": lambda gain: gain < -CLEAR,
        "not below it": lambda gain: gain >= 0,
        f"above it by more than {CLEAR} dB": lambda gain: gain > CLEAR,
    }
    body = []
    for half in cases.HALVES:
        mine = [row for row in rows if row["half"] == half]
        body.append(
            [half, *(_rate([r for r in mine if inside(float(r["gain"]))]) for inside in bands.values())]
        )
    return common.table(["half", *bands], body)


def _table_of_sets(rows: list[dict[str, str]]) -> str:
    def kind(row: Mapping[str, str]) -> str:
        if row["set"] != ADDED:
            return row["set"]
        *_, mechanism, correlation, _ = row["image"].split("/")
        return f"added noise, {mechanism}, {correlation}"

    body = []
    for name in dict.fromkeys(map(kind, rows)):
        mine = [row for row in rows if kind(row) == name and row["half"] == "report"]
        gains = [float(row["gain"]) for row in mine]
        below = [row for row in mine if float(row["gain"]) < 0]
        above = [row for row in mine if float(row["gain"]) >= 0]
        if mine:
            body.append([name, len(mine), f"{np.mean(gains):+.2f}", _rate(below), _rate(above)])
    return common.table(["files", "number", "mean gain (dB)", "warned, below", "warned, not below"], body)


def _table_of_planted(rows: list[dict[str, str]]) -> str:
    body = []
    for name, mine in {
        "all": rows,
        "real, or with independent noise": [
            row for row in rows if row["set"] != ADDED or "/independent/" in row["image"]
        ],
    }.items():
        half = np.mean(
            [
                "noise left" in sentences_of(replace(_found(row), noise_left=float(row["half_left"])))
                for row in mine
            ]
        )
        puncta = np.mean([_puncta(row) for row in mine])
        body.append([name, len(mine), f"{half:.1%}", f"{puncta:.1%}"])
    return common.table(
        ["files", "number", "half of the noise kept: found", "20 puncta removed: found"], body
    )


def _puncta(row: Mapping[str, str]) -> bool:
    planted = replace(
        _found(row), spots=int(row["puncta_found"]), measurable=row["puncta_measurable"] == "True"
    )
    return "structure removed" in sentences_of(planted)


if __name__ == "__main__":
    common.run("residual_tests", SIZES, measure, report)
