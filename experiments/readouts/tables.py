"""From rows of numbers to tables: coverage, width, and when there is no interval."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import nan

import numpy as np
from scipy import stats

from ddpm_lightning.readouts.intervals import Interval, Measured, conformal_bounds, measured
from ddpm_lightning.readouts.novelty import MOST_UNUSUAL, novelty
from ddpm_lightning.readouts.readout import BUILT_IN, NUMBER, Quantity
from experiments import common

__all__ = ["abstention", "coverage"]

Rows = Sequence[Mapping[str, str]]
LEVEL = 0.9
#: Fewest calibration images for this level; the program itself requires more.
FEWEST = 9
SOUND = "as recorded"
QUANTITIES = {name: one for _, numbers in BUILT_IN.values() for name, one in numbers.items()}
#: Columns of the inputs that are not features.
ABOUT = ("set", "role", "image", "kind", "field", "warnings")


def _number(text: str) -> float:
    return float(text) if text else nan


def _measured(row: Mapping[str, str]) -> Measured:
    samples = [float(value) for value in row["samples"].split()]
    return measured(samples, _number(row["restored"]), _number(row["input"]))


def _without_samples(row: Mapping[str, str]) -> Measured:
    return measured([], _number(row["restored"]), _number(row["input"]))


def _naive(found: Measured, samples: int, _: Quantity) -> tuple[float, float]:
    """Returns the interval of a further sample: m ± t s √(1 + 1/n) with Student's t."""
    half = stats.t.ppf((1 + LEVEL) / 2, samples - 1) * found.std * (1 + 1 / samples) ** 0.5
    return found.value - half, found.value + half


def warned(row: Mapping[str, str]) -> bool:
    """Says whether the comparison of an image with its restoration gave a warning."""
    return not {"noise_left", "structure_removed"}.isdisjoint(row["warnings"].split())


def _key(row: Mapping[str, str]) -> tuple[str, str, str, str]:
    return row["set"], row["role"], row["image"], row["kind"]


def _intervals(
    rows: Rows, name: str, read: Callable[[Mapping[str, str]], Measured]
) -> Iterator[tuple[float, float, float]]:
    """Yields truth, lower and upper end for each test image of a set and number."""
    quantity = QUANTITIES.get(name, NUMBER)
    known = [row for row in rows if row["truth"] not in ("", "nan")]
    scores = []
    for row in known:
        one, scale = read(row), read(row).scale(quantity)
        if row["role"] == "calibration" and np.isfinite(one.value) and scale > 0:
            scores.append((float(row["truth"]) - one.value) / scale)
    if len(scores) < FEWEST:
        return
    low, high = conformal_bounds(scores, LEVEL)
    made = Interval(low=low, high=high, images=len(scores))
    for row in known:
        one = read(row)
        if row["role"] == "test" and np.isfinite(one.value) and one.scale(quantity) > 0:
            yield float(row["truth"]), *made.around(one, quantity)


def coverage(numbers: Rows, inputs: Rows) -> Mapping[str, str]:
    """Returns tables of coverage and of relative width, for each number and set."""
    flagged = {_key(row) for row in inputs if warned(row)}
    rows = [row for row in numbers if row["kind"] == SOUND and _key(row) not in flagged]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    names = list(dict.fromkeys(row["number"] for row in rows))
    covered, widths, naive = [], [], []
    total, pooled = 0, 0
    for name in names:
        cells, ratios, plain = [], [], []
        for one in sets:
            chosen = [row for row in rows if row["set"] == one and row["number"] == name]
            scaled = np.array(list(_intervals(chosen, name, _measured))).reshape(-1, 3)
            alone = np.array(list(_intervals(chosen, name, _without_samples))).reshape(-1, 3)
            if not len(scaled) or not len(alone):
                cells.append("")
                ratios.append("")
                plain.append("")
                continue
            inside = int(((scaled[:, 1] <= scaled[:, 0]) & (scaled[:, 0] <= scaled[:, 2])).sum())
            total, pooled = total + len(scaled), pooled + inside
            low, high = stats.binomtest(inside, len(scaled)).proportion_ci(0.95)
            cells.append(f"{inside / len(scaled):.2f} ({low:.2f} to {high:.2f})")
            width = [np.median(each[:, 2] - each[:, 1]) for each in (scaled, alone)]
            ratios.append(f"{width[0] / width[1]:.2f}" if width[1] > 0 else "")
            plain.append(_of_naive(chosen))
        covered.append([name, *cells])
        widths.append([name, *ratios])
        naive.append([name, *plain])
    low, high = stats.binomtest(pooled, max(total, 1)).proportion_ci(0.95)
    sentence = (
        f"All together: {pooled / max(total, 1):.3f} ({low:.3f} to {high:.3f}) of {total} intervals.\n\n"
    )
    return {
        "coverage": sentence + common.table(["number", *sets], covered),
        "width": common.table(["number", *sets], widths),
        "naive": common.table(["number", *sets], naive),
    }


def _of_naive(rows: Rows) -> str:
    """Returns the share of the images whose naive interval contains the truth."""
    inside = []
    for row in rows:
        found = _measured(row)
        if row["truth"] not in ("", "nan") and np.isfinite(found.std):
            low, high = _naive(found, len(row["samples"].split()), NUMBER)
            inside.append(low <= float(row["truth"]) <= high)
    return f"{np.mean(inside):.2f}" if inside else ""


def abstention(inputs: Rows) -> str:
    """Returns a table of the share of images without an interval, for sound images and for three failures."""
    features = [column for column in inputs[0] if column not in ABOUT]
    described = {_key(row): {name: float(row[name]) for name in features} for row in inputs}
    kinds = list(dict.fromkeys(row["kind"] for row in inputs))
    sets = {
        name: [row for row in inputs if row["set"] == name and row["kind"] == SOUND]
        for name in dict.fromkeys(row["set"] for row in inputs)
    }

    def refused(row: Mapping[str, str], calibration: str) -> bool:
        used = [_key(one) for one in sets[calibration] if one is not row and not warned(one)]
        seen = {name: [described[key][name] for key in used] for name in features}
        return warned(row) or novelty(seen, described[_key(row)]) <= MOST_UNUSUAL

    body = []
    for name, sound in sets.items():
        of_set = [row for row in inputs if row["set"] == name]
        cells = [_share([refused(row, name) for row in of_set if row["kind"] == kind]) for kind in kinds]
        foreign = [refused(row, name) for other in sets if other != name for row in sets[other]]
        images = sum(not warned(row) for row in sound)
        body.append([name, str(images), *cells, _share(foreign), _share([warned(row) for row in sound])])
    header = ["set", "images without warnings", *("sound" if kind == SOUND else kind for kind in kinds)]
    return common.table([*header, "other specimen", "sound, by warnings alone"], body)


def _share(found: Sequence[bool]) -> str:
    return f"{np.mean(found):.2f} of {len(found)}" if found else ""
