"""Measures readouts of restored images, of their samples, and of clean images, and how well intervals hold.

python -m experiments.readouts.run --size small --pairs shared/data/w2s-widefield
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.readouts.readout import find_readouts
from ddpm_lightning.readouts.readout import measure as measure_all
from experiments import common
from experiments.readouts.images import altered, images
from experiments.readouts.tables import abstention, coverage

READOUTS = ("count", "area", "filament_length", "branch_points", "puncta", "texture", "profile")
#: Numbers that are shown, of all that these readouts return.
NUMBERS = (
    *("objects", "area", "length", "branch_points", "puncta", "nearest_distance", "contrast", "intensity"),
)
SIZES = {
    "small": {"calibration": 30, "test": 50, "altered": 10, "side": 128, "samples": 15},
    "full": {"calibration": 100, "test": 200, "altered": 50, "side": 256, "samples": 15},
}


def measure(options: common.Options) -> None:
    """Adds rows for each image: what is measured in it, before and after, in each sample, and in the clean image."""
    restorer = Restorer.load(options.model, preset="uncertainty", bfloat16="auto")
    settings = {
        **options.size,
        "model": restorer.trained.sha256,
        "readouts": [one.key for one in find_readouts(READOUTS)],
    }
    rows = common.Rows(options.work / "numbers.csv", settings, ("set", "role", "image", "kind"))
    inputs = common.Rows(options.work / "inputs.csv", settings, ("set", "role", "image", "kind"))
    rng, changed = np.random.default_rng(0), Counter[str]()
    for name, role, pair in images(options):
        versions = {"as recorded": pair.low}
        if role == "test" and changed[name] < options.size["altered"]:
            changed[name] += 1
            versions |= altered(pair, rng)
        for kind, low in versions.items():
            about = {"set": name, "role": role, "image": pair.name, "kind": kind}
            if not (rows.has(**about) and inputs.has(**about)):
                numbers, features = measured(restorer, pair, low, options.size["samples"])
                inputs.add([{**about, "field": pair.field, **features}])
                rows.add([{**about, **number} for number in numbers])


def measured(
    restorer: Restorer, pair: Pair, low: np.ndarray, samples: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Returns the numbers of an image, and what is known of it without a clean partner."""
    restored = restorer.restore(low, samples, pair.name, pixel_size=pair.pixel_size, keep_samples=True)
    scale = restorer.input_scale(restorer.prepared(low).plane)
    target = restorer.normalisation.target_scale(scale, pair.low, pair.high)
    truth = restorer.normalisation.output_scale(scale).restore(target.normalise(pair.high))
    if restored.samples is None:
        raise ValueError("there are no samples")
    images = {"truth": truth, "input": low, "restored": restored.mean}
    images |= {str(number): sample for number, sample in enumerate(restored.samples)}
    numbers = {name: _numbers(image, pair.pixel_size) for name, image in images.items()}
    found = [
        {
            "number": number,
            **{name: numbers[name][number] for name in ("truth", "input", "restored")},
            "samples": " ".join(f"{numbers[str(k)][number]:.6g}" for k in range(len(restored.samples))),
        }
        for number in NUMBERS
    ]
    features = restorer.shift_check.describe(restorer.prepared(low).plane)
    warned = " ".join(warning.partition(":")[0].replace(" ", "_") for warning in restored.warnings)
    return found, {**features, "warnings": warned}


def _numbers(image: np.ndarray, pixel_size: float | None) -> dict[str, float]:
    together: dict[str, float] = {}
    for numbers in measure_all(find_readouts(READOUTS), image, pixel_size):
        together |= numbers
    return together


def report(folder: Path) -> Mapping[str, str]:
    """Returns the tables by name."""
    numbers, inputs = (common.read(folder / "results" / f"{name}.csv") for name in ("numbers", "inputs"))
    return {**coverage(numbers, inputs), "abstention": abstention(inputs)}


if __name__ == "__main__":
    common.run("readouts", SIZES, measure, report)
