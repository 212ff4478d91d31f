"""The rows of a benchmark on one set, and their ranks.

Every row is one estimator of a method: the output of a regressor, the average of samples, or one sample. The rank of a
row is its place among all rows, averaged over the images and four criteria: PSNR, MS-SSIM, LPIPS and CRPS. NRMSE and
Pearson's correlation do not count, because under the protocol ``affine`` they are functions of the PSNR of an image.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ddpm_lightning.benchmark.jobs import PLAIN
from ddpm_lightning.evaluation.comparison import Comparison
from ddpm_lightning.evaluation.tables import ARROWS

__all__ = ["RANKED", "Entry", "entries_of", "ranks", "summary_of"]

#: Criteria of the rank. In CRPS, rows of samples are scored as a distribution, all others as a prediction of one value.
RANKED = ("psnr", "ms_ssim", "lpips", "crps")


@dataclass(frozen=True)
class Entry:
    """A row of the table on one set.

    Attributes:
        name: Name of the row.
        method: Name of the method.
        estimator: ``raw``, ``single`` or ``average``.
        folder: Folder of the evaluation.
        nfe: Network evaluations (NFE) for an image.
        seconds: Seconds for an image of 256 x 256 pixels.
    """

    name: str
    method: str
    estimator: str
    folder: Path
    nfe: int
    seconds: float


def entries_of(records: Sequence[dict[str, Any]], evaluation: str = PLAIN) -> list[Entry]:
    """Returns the rows of one set: the raw image, each method, and single samples of those that sample.

    Args:
        records: Records of the finished jobs of the set, each with its ``folder``.
        evaluation: Folder of the evaluation in that of the job.
    """
    averages, singles = [], []
    for record in records:
        place, timed = Path(record["folder"]) / evaluation, record.get(evaluation, record)
        summary = summary_of(place)
        samples, each = summary["samples"], summary["nfe_per_sample"]
        name = record["method"] + (f", average of {samples}" if samples > 1 else "")
        kind = "single" if samples == 1 and not summary["deterministic"] else "average"
        nfe = summary.get("nfe", each * samples)
        first = timed["seconds_per_sample"]
        taken = first + (samples - 1) * timed.get("seconds_per_further_sample", first)
        common = (record["method"], kind, place, nfe, taken)
        averages.append(Entry(name, *common))
        if samples > 1:
            one = (record["method"], "single", place, each, first)
            singles.append(Entry(f"{record['method']}, one sample", *one))
    raw = Entry("raw", "raw", "raw", averages[0].folder, 0, 0.0)
    return [raw, *averages, *singles]


def ranks(comparison: Comparison) -> dict[str, float]:
    """Returns the mean rank of each method over images and the criteria of the rank, 1 the best."""
    places: dict[str, list[float]] = {method.name: [] for method in comparison.methods}
    for metric in (metric for metric in comparison.metrics if metric in RANKED):
        for image in comparison.methods[0].rows:
            values = [method.rows[image].values.get(metric) for method in comparison.methods]
            if None in values:
                continue
            better = np.array(values) * (1 if ARROWS[metric] == "↓" else -1)
            for name, place in zip(places, rankdata(better), strict=True):
                places[name].append(float(place))
    return {name: float(np.mean(found)) if found else float("nan") for name, found in places.items()}


def summary_of(evaluation: Path) -> dict[str, Any]:
    """Returns the summary in the folder of an evaluation."""
    return json.loads((evaluation / "summary.json").read_text(encoding="utf-8"))
