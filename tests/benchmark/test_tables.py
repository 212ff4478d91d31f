"""The tables of the benchmark, against numbers made by hand."""

import csv
import json

import numpy as np
import pytest

from ddpm_lightning.benchmark.jobs import AUGMENTED, PLAIN
from ddpm_lightning.benchmark.rows import entries_of, ranks
from ddpm_lightning.benchmark.tables import METRICS, write_benchmark
from ddpm_lightning.evaluation.comparison import compare, read_methods
from ddpm_lightning.evaluation.image_scores import ESTIMATORS, Row
from ddpm_lightning.evaluation.tables import write_rows

IMAGES = 12
#: PSNR of each estimator of each method, and LPIPS.
QUALITY = {
    "blur": {"raw": (20, 0.8), "single": (25, 0.5), "average": (25, 0.5)},
    "pmrf": {"raw": (20, 0.8), "single": (27, 0.2), "average": (29, 0.4)},
    "ddpm": {"raw": (20, 0.8), "single": (24, 0.3), "average": (27, 0.4)},
}


#: What augmentation adds to the PSNR.
GAIN = 0.5


def make_cell(folder, data, method, samples):
    place = folder / data / method
    # Each method has luck of its own: equal differences would be ties, whose exact test takes seconds.
    rng = np.random.default_rng(list(QUALITY).index(method) + 1)
    evaluate(place / PLAIN, method, samples, 0.0, rng)
    evaluate(place / AUGMENTED, method, samples, GAIN, rng)
    picture = np.arange(64.0).reshape(8, 8)
    np.savez(place / "example.npz", low=picture, target=picture, single=picture, average=picture)
    return {
        "data": data,
        "method": method,
        "folder": place,
        "parameters": 1000,
        "seconds_per_sample": 0.5,
        "preset": "",
        "steps": [8],
        "training": 1.0,
        AUGMENTED: {"seconds_per_sample": 4.0},
    }


def evaluate(place, method, samples, gain, rng):
    noise = np.random.default_rng(0).normal(0, 0.3, IMAGES)
    for protocol, name in (("affine", "metrics.csv"), ("paper", "metrics_paper.csv")):
        rows = []
        for image in range(IMAGES):
            for estimator in ESTIMATORS:
                psnr, lpips = QUALITY[method][estimator]
                psnr += gain * (estimator == "average")
                values = {
                    "psnr": psnr + noise[image] + rng.normal(0, 0.01),
                    "lpips": lpips + rng.normal(0, 0.001),
                    "ms_ssim": psnr / 40 + rng.normal(0, 1e-4),
                    "nrmse": 1 / psnr + rng.normal(0, 1e-4),
                    "pearson": 1 - 1 / psnr + rng.normal(0, 1e-4),
                    "crps": 1 / psnr**2 + rng.normal(0, 1e-6),
                }
                rows.append(
                    Row(f"{image:02}", f"field {image}", estimator, values, {}, {"protocol": protocol})
                )
        write_rows(rows, place / name)
    summary = {
        "images": IMAGES,
        "samples": samples,
        "nfe_per_sample": 4 if samples > 1 or not gain else 32,
        "deterministic": samples == 1,
        "calibration": None if samples == 1 else {"numbers": {"coverage": {"median": 0.8}, "ece": None}},
        "averaging": None if samples == 1 else {"ratio": 0.49},
    }
    (place / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def cells(tmp_path):
    return [
        make_cell(tmp_path / "cells", data, method, 1 if method == "blur" else 2)
        for data in ("fish", "worms")
        for method in QUALITY
    ]


def table(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_are_raw_averages_then_single_samples(cells):
    names = [entry.name for entry in entries_of(cells[:3])]
    assert names == [
        "raw",
        "blur",
        "pmrf, average of 2",
        "ddpm, average of 2",
        "pmrf, one sample",
        "ddpm, one sample",
    ]
    assert [entry.nfe for entry in entries_of(cells[:3])] == [0, 4, 8, 8, 4, 4]


def test_ranks_count_places(cells):
    rows = entries_of(cells[:3])
    methods = read_methods(
        [f"{row.folder}/metrics.csv:{row.estimator}" for row in rows], "average", [r.name for r in rows]
    )
    found = ranks(compare(methods, ["psnr"], "pmrf, average of 2"))
    alike = ["psnr", "nrmse", "pearson"]
    assert found == ranks(compare(methods, alike, "pmrf, average of 2")), "the squared error counts once"
    assert found != ranks(compare(methods, [*alike, "lpips"], "pmrf, average of 2"))
    # PSNR 29 is always first, 20 always last; 27 is shared by two rows, which are second and third in turn.
    assert found["pmrf, average of 2"] == 1
    assert found["raw"] == 6
    assert found["ddpm, average of 2"] + found["pmrf, one sample"] == pytest.approx(5)


def test_tables_hold_the_numbers_of_the_evaluations(cells, tmp_path):
    output = tmp_path / "out"
    write_benchmark(cells, ["affine", "paper"], ["Made by a test."], output)
    rows = table(output / "table.csv")
    scores = table(output / "scores_affine.csv")
    for data in ("fish", "worms"):
        chosen = [r for r in scores if r["set"] == data and r["row"] == "ddpm, one sample"]
        assert len(chosen) == IMAGES
        wanted = np.median([float(r["psnr"]) for r in chosen])
        key = (data, "ddpm, one sample", "affine", "no", "psnr")
        (row,) = [r for r in rows if (r["set"], r["row"], r["protocol"], r["tta"], r["metric"]) == key]
        assert float(row["median"]) == pytest.approx(wanted, rel=1e-5)
        assert float(row["low"]) < float(row["median"]) < float(row["high"])
    page = (output / "table.md").read_text(encoding="utf-8")
    assert "Made by a test." in page and "## fish" in page and "## worms" in page
    header = next(line for line in page.splitlines() if "| psnr ↑ |" in line)
    assert "| crps ↓ | rank |" in header, "of the scores of samples, only this one was evaluated"
    assert {r["metric"] for r in rows} == {*METRICS, "crps"} and float(scores[0]["crps"]) > 0
    # The blur is significantly worse than the reference in PSNR, and one sample of the reference better in LPIPS.
    blur = next(line for line in page.splitlines() if line.startswith("| blur | 25"))
    assert "▼" in blur and "▲" not in blur
    sample = next(line for line in page.splitlines() if line.startswith("| pmrf, one sample"))
    assert sample.split("|")[6].endswith("▲ ")
    assert (output / "table_paper.md").is_file()
    assert (
        "In LPIPS, significantly better than `pmrf, one sample`: none; not told apart from it: none;" in page
    )
    assert "| ddpm | 0.7 | 0.8 | absent |" in page, (
        "the spread: the root of b / a, coverage, what is not known"
    )
    for kind in ("bars", "plane", "images"):
        assert (output / "figures" / f"{kind}_fish.png").stat().st_size > 3000


def test_the_samples_of_the_reference_are_compared_in_lpips(cells, tmp_path):
    write_benchmark(cells, ["affine"], [], tmp_path / "out")
    tests = table(tmp_path / "out" / "differences.csv")
    chosen = [
        t
        for t in tests
        if t["set"] == "fish" and t["metric"] == "lpips" and t["reference"] == "pmrf, one sample"
    ]
    found = {t["row"]: (float(t["difference"]), t["significant"]) for t in chosen}
    # Differences are row minus reference: one sample of ddpm is worse by 0.1.
    assert found["ddpm, one sample"][0] == pytest.approx(0.1, abs=0.005)
    assert found["ddpm, one sample"][1] == "yes"


def test_augmentation_is_a_page_of_its_own_with_its_gain_and_its_cost(cells, tmp_path):
    write_benchmark(cells, ["affine", "paper"], [], tmp_path / "out")
    gains = {(r["set"], r["row"], r["metric"]): r for r in table(tmp_path / "out" / "tta.csv")}
    for row, evaluations in (("blur", ("4", "32")), ("pmrf, average of 2", ("8", "8"))):
        found = gains["fish", row, "psnr"]
        assert float(found["low"]) < float(found["difference"]) == pytest.approx(GAIN, abs=0.02)
        assert (found["nfe_without"], found["nfe_with"]) == evaluations
    assert abs(float(gains["fish", "ddpm, one sample", "psnr"]["difference"])) < 0.02
    assert not any(row == "raw" for _, row, _ in gains)
    rows = {
        (r["tta"], r["row"]): r
        for r in table(tmp_path / "out" / "table.csv")
        if (r["set"], r["protocol"], r["metric"]) == ("fish", "affine", "psnr")
    }
    assert {name for tta, name in rows if tta == "yes"} == {name for tta, name in rows if tta == "no"}
    blur, augmented = rows["no", "blur"], rows["yes", "blur"]
    assert float(augmented["median"]) - float(blur["median"]) == pytest.approx(GAIN, abs=0.1)
    assert (float(blur["seconds"]), float(augmented["seconds"])) == (0.5, 4.0)
    page = (tmp_path / "out" / "table_tta.md").read_text(encoding="utf-8")
    assert "| blur | +0." in page and (tmp_path / "out" / "scores_affine_tta.csv").is_file()
    assert {r["tta"] for r in table(tmp_path / "out" / "differences.csv")} == {"no", "yes"}
