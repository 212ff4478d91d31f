"""Rows over seeds: marks, corrections and columns, from planted differences."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ddpm_lightning.benchmark.seeds import HEAD, lines_of, over_seeds, seeds_section
from ddpm_lightning.evaluation.comparison import Method
from ddpm_lightning.evaluation.image_scores import Row

IMAGES, SEEDS = 20, 3
#: Mean PSNR of each row against the reference.
SHIFTS = {"ours": 0.0, "better": 0.5, "worse": -0.5, "equal": 0.01}


def trainings(seed_std: float = 0.01) -> dict[str, list[Method]]:
    rng = np.random.default_rng(0)
    hard = rng.normal(30, 2, IMAGES)

    def one(name: str, seed: int) -> Method:
        psnr = hard + SHIFTS[name] + rng.normal(0, seed_std) + rng.normal(0, 0.05, IMAGES)
        rows = {
            f"{k}": Row(
                f"{k}", f"field {k // 2}", "average", {"psnr": v, "lpips": 1 / v}, {}, {"protocol": "affine"}
            )
            for k, v in enumerate(psnr)
        }
        return Method(f"{name} {seed}", "average", Path(name), rows)

    return {name: [one(name, seed) for seed in range(SEEDS)] for name in SHIFTS}


def test_marks_say_what_was_planted():
    found = {(row.metric, row.row): row for row in over_seeds(trainings(), ["psnr", "lpips"], "ours")}
    assert [found["psnr", name].mark for name in SHIFTS] == ["", " ▲", " ▼", " ≈"]
    assert [found["lpips", name].mark for name in SHIFTS] == ["", " ▲", " ▼", ""], "LPIPS has no margin"
    assert all(row.seeds == SEEDS for row in found.values())


def test_a_difference_of_the_size_of_that_between_seeds_is_not_significant():
    """Twenty images that all agree are convincing for one training, and not for the next."""
    found = {row.row: row for row in over_seeds(trainings(seed_std=0.5), ["psnr"], "ours")}
    assert (
        found["equal"].mark == "" and found["better"].difference.high - found["better"].difference.low > 0.5
    )


def test_p_values_are_those_of_the_means_of_fields_if_seeds_agree():
    methods = {name: [one[0]] * SEEDS for name, one in trainings().items()}
    rows = {row.row: row for row in over_seeds(methods, ["psnr"], "ours")}
    of = {name: np.array([r.values["psnr"] for r in one[0].rows.values()]) for name, one in methods.items()}
    p = {
        name: stats.ttest_1samp((of[name] - of["ours"]).reshape(-1, 2).mean(axis=1), 0).pvalue
        for name in ("better", "worse", "equal")
    }
    for place, name in enumerate(sorted(p, key=p.get)):
        assert rows[name].difference.p == pytest.approx(p[name])
        assert rows[name].p >= min((3 - place) * p[name], 1) * (1 - 1e-9)


def test_the_table_and_its_columns():
    rows = over_seeds(trainings(), ["psnr"], "ours")
    lines = lines_of(rows, "ours")
    assert all(len(line) == len(HEAD) for line in lines)
    better = dict(zip(HEAD, next(line for line in lines if line[1] == "better"), strict=True))
    assert better["significant"] == "yes" and better["reference"] == "ours" and better["equivalent"] == "no"
    assert better["difference_low"] < better["difference"] < better["difference_high"]
    page = seeds_section(rows, "ours")
    assert any(line.startswith("| better | 3 |") and line.endswith("▲ |") for line in page)
