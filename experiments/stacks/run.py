"""Measures flicker, error, and standard deviation of simulated stacks, for each way of restoring them.

python -m experiments.stacks.run --size small
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restorer import Restorer
from experiments import common
from experiments.stacks.volumes import CASES, peaks, recorded

SIZES = {"small": {"photons": [40, 8], "samples": 8}, "full": {"photons": [40, 8], "samples": 15}}
#: Ways of restoring a stack; the first one is that of earlier versions.
SETTINGS: dict[str, dict[str, Any]] = {
    "plane by plane": {"scale": "plane", "noise": "independent"},
    "default": {},
    "shared noise": {"noise": "shared"},
    "average_neighbours=1": {"average_neighbours": 1},
    "average_neighbours=3": {"average_neighbours": 3},
}
REFERENCE = next(iter(SETTINGS))
#: Tables of the README with a row for each case, and what they show.
SHOWN = {"accuracy": "gain", "flicker": "flicker", "samples": "sample_jumps"}


def measure(options: common.Options) -> None:
    """Adds a row for each stack and way of restoring it."""
    trained = common.loaded(options, options.model).trained
    settings = {**options.size, "model": trained.sha256, "settings": SETTINGS}
    rows = common.Rows(options.work / "stacks.csv", settings, ("case", "photons", "setting"))
    for photons in options.size["photons"]:
        for case, light in CASES.items():
            low, clean = recorded(light(), photons)
            for setting, values in SETTINGS.items():
                about = {"case": case, "photons": str(photons), "setting": setting}
                if rows.has(**about):
                    continue
                restorer = Restorer(trained, **values)
                restored = restorer.restore(low, options.size["samples"], case, "TYX", keep_samples=True)
                rows.add([{**about, **scores(restored, clean), **of_transients(case, restored, clean)}])


def power(values: np.ndarray) -> float:
    """Returns the mean square."""
    return float(np.square(values, dtype=np.float64).mean())


def jumps(stack: np.ndarray) -> float:
    """Returns the power of the differences of neighbouring planes of stacks (…, planes, H, W)."""
    return power(np.diff(stack, axis=-3))


def scores(restored: Restoration, clean: np.ndarray) -> dict[str, float]:
    """Returns errors, jumps from plane to plane, and standard deviations relative to errors, of a stack."""
    samples, std = restored.samples, restored.std
    if samples is None or std is None:
        raise ValueError("the stack was restored without samples")
    factor = restored.calibration.std_factor if restored.calibration else 1.0
    found = {
        "mse": power(restored.mean - clean),
        "jumps": jumps(restored.mean),
        "jumps_of_samples": jumps(samples),
        "jumps_of_clean": jumps(clean),
        "std_ratio": float(np.sqrt(power(std) / power(restored.mean - clean))),
    }
    for name, project in (("mean", np.mean), ("max", np.max)):
        deviation = factor * project(samples, axis=1).std(axis=0)
        error = project(restored.mean, axis=0) - project(clean, axis=0)
        found[f"std_ratio_{name}"] = float(np.sqrt(power(deviation) / power(error)))
        found[f"mse_{name}"] = power(error)
        found[f"mse_{name}_of_samples"] = power(
            project(samples, axis=1).mean(axis=0) - project(clean, axis=0)
        )
    return found


def of_transients(case: str, restored: Restoration, clean: np.ndarray) -> dict[str, float | str]:
    """Returns the mean and the root mean square error of the heights of transients, relative to the clean heights."""
    if case != "transients":
        return {"peak": "", "peak_error": ""}
    ratio = peaks(restored.mean) / peaks(clean)
    return {"peak": float(ratio.mean()), "peak_error": float(np.sqrt(power(ratio - 1)))}


def report(folder: Path) -> Mapping[str, str]:
    """Returns the tables of the README."""
    rows = common.read(folder / "results" / "stacks.csv")
    found = {(row["case"], row["photons"], row["setting"]): row for row in rows}
    cases, photons = (list(dict.fromkeys(row[key] for row in rows)) for key in ("case", "photons"))

    def value(case: str, number: str, setting: str, what: str) -> float:
        row, before = (
            {
                key: float(text)
                for key, text in found[case, number, one].items()
                if key.startswith(("mse", "j"))
            }
            for one in (setting, REFERENCE)
        )
        if what == "gain":
            return 10 * np.log10(before["mse"] / row["mse"])
        if what == "flicker":
            return row["jumps"] / before["jumps"]
        return row["jumps_of_samples"] / row["jumps_of_clean"] if row["jumps_of_clean"] else np.nan

    def cells(case: str, setting: str, what: str) -> str:
        values = [value(case, number, setting, what) for number in photons]
        sign = "+" if what == "gain" else ""
        return "" if np.isnan(values).any() else " / ".join(f"{one:{sign}.2f}" for one in values)

    tables = {
        name: common.table(
            ["case", *SETTINGS], [[case, *(cells(case, s, what) for s in SETTINGS)] for case in cases]
        )
        for name, what in SHOWN.items()
    }
    ratios = ("std_ratio", "std_ratio_mean", "std_ratio_max")
    tables["deviation"] = common.table(
        ["setting", "plane", "mean of planes", "maximum of planes"],
        [
            [
                setting,
                *(_range([float(row[key]) for row in rows if row["setting"] == setting]) for key in ratios),
            ]
            for setting in SETTINGS
        ],
    )
    tables["transients"] = common.table(
        ["setting", *(f"{number} photons" for number in photons)],
        [
            [
                setting,
                *(
                    f"{float(row['peak']):.3f}, error {float(row['peak_error']):.3f}"
                    for number in photons
                    for row in [found["transients", number, setting]]
                ),
            ]
            for setting in SETTINGS
        ],
    )
    return tables


def _range(values: list[float]) -> str:
    return f"{np.exp(np.mean(np.log(values))):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    common.run("stacks", SIZES, measure, report)
