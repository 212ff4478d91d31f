"""Measures filaments, synapses, mitochondria and nuclei in simulated images as each method restores them.

python -m experiments.downstream.run --size small
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.inference.restorer import Restorer
from experiments import common
from experiments.downstream.filaments import FILAMENTS
from experiments.downstream.mitochondria import MITOCHONDRIA
from experiments.downstream.nuclei import NUCLEI
from experiments.downstream.puncta import PUNCTA
from experiments.downstream.readout import Readout, fit
from experiments.downstream.tables import tables

READOUTS: Mapping[str, Readout] = {
    "microtubules": FILAMENTS,
    "mitochondria": MITOCHONDRIA,
    "synapses": PUNCTA,
    "zebrafish": NUCLEI,
}
#: Methods that are trained on each set, and the presets of those that sample.
METHODS = {"gaussian": None, "care": None, "regression": None, "ddpm": "mean"}
#: Images that need no method: the expected image without noise, the target as it was recorded, the input.
GIVEN: Mapping[str, Callable[[Pair], np.ndarray]] = {
    "clean": lambda pair: pair.extra["emitters"],
    "target": lambda pair: pair.high,
    "raw": lambda pair: pair.low,
}
SAMPLES = 15
SIZES = {"small": {"images": 8, "val": 8, "side": 192}, "full": {"images": 100, "val": 32, "side": 256}}


def measure(options: common.Options) -> None:
    """Adds rows for each image and method: measured and true values."""
    trained = common.checkpoints(options, {name: common.set_of(name) for name in READOUTS}, list(METHODS))
    default = Restorer.load(options.model, preset="uncertainty", bfloat16="auto")
    for name, readout in READOUTS.items():
        methods = {
            method: Restorer.load(
                trained[name, method], bfloat16="auto", **({"preset": preset} if preset else {})
            )
            for method, preset in METHODS.items()
        } | {"default": default}
        settings = {
            **options.size,
            "readout": {key: list(values) for key, values in readout.grid.items()},
            "models": {method: restorer.trained.sha256 for method, restorer in methods.items()},
        }
        parameters = fitted(options, name, settings)
        rows = common.Rows(options.work / f"{name}.csv", settings, ("image", "method"))
        samples = common.Rows(options.work / f"{name}_samples.csv", settings, ("image", "method"))
        for pair in common.evenly_spaced(
            common.simulated(name, options.size["images"], options.size["side"]), 10**9
        ):
            recorded = readout.find(pair.high, **parameters)
            _, reference = readout.compare(recorded, pair.extra["truth"], pair.pixel_size)
            for method in (*GIVEN, *methods):
                about = {"image": pair.name, "method": method}
                sampling = method in methods and not methods[method].method.deterministic
                if rows.has(**about) and (not sampling or samples.has(**about)):
                    continue
                found = {
                    version: rows_of(readout, parameters, image, pair)
                    for version, image in versions(method, methods, pair)
                }
                single = [version for version in found if version.isdigit()]
                if single and not samples.has(**about):
                    of_samples = [
                        row
                        for version in single
                        for row in found[version]
                        if row["measure"] == readout.sampled
                    ]
                    same = {**about, "field": pair.field, "target": reference[readout.sampled].value}
                    samples.add(
                        [{**same, "sample": v, **row} for v, row in zip(single, of_samples, strict=True)]
                    )
                if not rows.has(**about):
                    shown = {"one sample": found[single[0]], "average": found["average"]} if single else found
                    rows.add(
                        [
                            {**about, "field": pair.field, "version": version, **row}
                            for version, of_version in shown.items()
                            for row in of_version
                        ]
                    )


def fitted(options: common.Options, name: str, settings: Mapping[str, Any]) -> dict[str, float]:
    """Returns the parameters of an analysis, fitted once on recorded targets of val and stored in a row."""
    rows = common.Rows(options.work / f"{name}_parameters.csv", settings, ("parameters",))
    if not rows.done:
        source = SimulatedPairs(
            name, "val", options.size["val"], options.size["side"], seed=common.DATASET_SEED
        )
        pairs = [source[index] for index in range(len(source))]
        found = fit(
            READOUTS[name],
            [pair.high for pair in pairs],
            [pair.extra["truth"] for pair in pairs],
            pairs[0].pixel_size,
        )
        rows.add([{"parameters": " ".join(f"{key}={value:g}" for key, value in found.items())}])
    return {
        key: float(value)
        for (text,) in rows.done
        for key, value in (part.split("=") for part in text.split())
    }


def versions(method: str, methods: Mapping[str, Restorer], pair: Pair) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the images of a method by their names: the average, and each sample by its number."""
    if method in GIVEN:
        yield "", GIVEN[method](pair)
        return
    restorer = methods[method]
    if restorer.method.deterministic:
        yield "", next(restorer.samples(pair.low, 1, pair.name))
        return
    total = 0.0
    for number, sample in enumerate(restorer.samples(pair.low, SAMPLES, pair.name)):
        yield str(number), sample
        total = total + sample
    yield "average", total / SAMPLES


def rows_of(
    readout: Readout, parameters: Mapping[str, float], image: np.ndarray, pair: Pair
) -> list[dict[str, Any]]:
    """Returns a row for each number that is measured in an image, with its true value; empty if there is none."""
    found, measures = readout.compare(readout.find(image, **parameters), pair.extra["truth"], pair.pixel_size)
    values = {
        "agreement": (found.f1, 1.0),
        "recall": (found.recall, 1.0),
        "invented": (found.invented, 0.0),
        **{name: (measure.value, measure.truth) for name, measure in measures.items()},
    }
    return [
        {"measure": name, "value": _known(float(value)), "truth": _known(float(truth))}
        for name, (value, truth) in values.items()
    ]


def _known(value: float) -> float | str:
    return value if np.isfinite(value) else ""


def report(folder: Path) -> Mapping[str, str]:
    """Plots the figure, and returns the tables by name."""
    results = folder / "results"
    names = [name for name in READOUTS if (results / f"{name}.csv").is_file()]
    return tables(
        {name: common.read(results / f"{name}.csv") for name in names},
        {name: common.read(results / f"{name}_samples.csv") for name in names},
        {name: common.read(results / f"{name}_parameters.csv")[0]["parameters"] for name in names},
        READOUTS,
        folder / "downstream.png",
    )


if __name__ == "__main__":
    common.run("downstream", SIZES, measure, report)
