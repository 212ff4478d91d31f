"""Comparisons of tables with planted differences, and of tables that must not meet."""

import csv
import io
import json
import time

import numpy as np
import pytest
from scipy import stats

from ddpm_lightning.evaluation.comparison import Method, compare, read_methods
from ddpm_lightning.evaluation.image_scores import ESTIMATORS, Row
from ddpm_lightning.evaluation.tables import write_rows
from ddpm_lightning.metrics.collection import SAMPLE_METRICS
from ddpm_lightning.reporting.comparison_tables import (
    comparison_csv,
    comparison_latex,
    comparison_markdown,
    differences_csv,
    in_words,
)
from ddpm_lightning.utils.errors import UserError
from tests.evaluation.gaussian import gaussian_scores

rng = np.random.default_rng(0)
BASE = rng.normal(30, 2, 12)
WOBBLE = rng.normal(0, 0.3, 12)


def table(folder, psnr, protocol="range", images=None, fields=None, **facts):
    """Writes metrics.csv; lpips is the same for all, resolution is missing in the raw images."""
    rows = []
    for number, value in enumerate(psnr):
        name = images[number] if images else f"{number:03d}"
        field = fields[number] if fields else ""
        for shift, estimator in zip((-3, -1, 0), ESTIMATORS, strict=True):
            values = {"psnr": float(value + shift), "mae": 100 / float(value + shift), "lpips": 0.2}
            values |= {"resolution": 90.0 + number} if estimator != "raw" else {}
            rows.append(
                Row(
                    name,
                    field,
                    estimator,
                    values,
                    {},
                    {"protocol": protocol, "data_range": 100.0, "low": 0.0} | facts,
                )
            )
    write_rows(rows, folder / "metrics.csv")
    return str(folder / "metrics.csv")


@pytest.fixture
def files(tmp_path):
    return [table(tmp_path / "a", BASE), table(tmp_path / "b", BASE - 0.8 + WOBBLE)]


def test_a_planted_difference_is_significant(files):
    found = compare(read_methods(files, "average"))
    assert [method.name for method in found.methods] == ["a", "b"] and found.images == found.fields == 12
    pairing = next(p for p in found.pairings if p.metric == "psnr")
    assert pairing.significant and pairing.difference.mean == pytest.approx(np.mean(0.8 - WOBBLE))
    assert pairing.difference.wilcoxon == pytest.approx(stats.wilcoxon(0.8 - WOBBLE).pvalue)
    words = " ".join(in_words(found))
    assert "a is better in mae by" in words and f"psnr by {np.mean(0.8 - WOBBLE):.3g} dB [" in words
    assert "not significant: lpips (+0, p = 1)" in words


def test_holm_corrects_for_the_pairs(files, tmp_path):
    third = table(tmp_path / "c", BASE - 0.3 + 3 * WOBBLE)
    three = compare(read_methods([*files, third], "average"), ["psnr"])
    two = compare(read_methods(files, "average"), ["psnr"])
    raw = [max(p.difference.wilcoxon, p.difference.student) for p in three.pairings]
    assert three.pairs == 3 and len(three.pairings) == 3
    assert all(p.p >= r for p, r in zip(three.pairings, raw, strict=True))
    assert three.pairings[0].p == pytest.approx(3 * two.pairings[0].p, rel=0.35)
    with_reference = compare(read_methods([*files, third], "average"), ["psnr"], "c")
    assert [(p.first, p.second) for p in with_reference.pairings] == [("a", "c"), ("b", "c")]


def test_estimators_of_one_file_and_names(files):
    found = compare(read_methods([files[0] + ":single", files[0]], "average"), ["psnr", "resolution"])
    assert [method.name for method in found.methods] == ["a single", "a average"]
    assert found.pairings[0].difference.mean == pytest.approx(-1) and found.pairings[0].significant
    named = read_methods(files, "raw", ["one", "two"])
    assert [method.name for method in named] == ["one", "two"] and named[0].rows["000"].values[
        "psnr"
    ] == BASE[0] - 3
    absent = compare(read_methods([files[0] + ":raw", files[1]], "average"), ["resolution"])
    assert absent.estimates["a raw", "resolution"] is None and not absent.pairings


def test_folders_of_the_same_name_are_distinguished(tmp_path):
    paths = [table(tmp_path / run / "scores", BASE) for run in ("one", "two")]
    assert [method.name for method in read_methods(paths, "average")] == ["one/scores", "two/scores"]
    folders = [str(tmp_path / run / "scores") for run in ("one", "two")]
    assert [str(method.path) for method in read_methods(folders, "average")] == paths


def test_few_fields_resolve_nothing(tmp_path):
    fields = [f"f{k // 4}" for k in range(12)]
    files = [table(tmp_path / name, BASE + k, fields=fields) for k, name in enumerate("ab")]
    found = compare(read_methods(files, "average"))
    assert found.fields == 3 and not any(pairing.significant for pairing in found.pairings)
    assert "Too few fields of view" in in_words(found)[0] and "6 are needed" in in_words(found)[0]


def test_the_table_in_three_forms(files):
    found = compare(read_methods(files, "average"))
    page, latex = comparison_markdown(found), comparison_latex(found)
    assert f"**{np.median(BASE):.4g} [" in page and "| b | average |" in page and "protocol `range`" in page
    lines = list(csv.DictReader(io.StringIO(comparison_csv(found))))
    assert len(lines) == 2 * 4 and lines[1]["metric"] == "psnr"
    assert float(lines[1]["median"]) == np.median(BASE)
    assert float(lines[1]["median_low"]) < np.median(BASE) < float(lines[1]["median_high"])
    differences = list(csv.DictReader(io.StringIO(differences_csv(found))))
    psnr = next(line for line in differences if line["metric"] == "psnr")
    assert psnr["significant"] == "yes" and 0 < float(psnr["p_mood"]) <= 1
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
    assert rf"\textbf{{{np.median(BASE):.4g}}}" in latex
    body = latex.split(r"\toprule")[1].split(r"\bottomrule")[0]
    assert all(line.count("&") == 4 for line in body.splitlines() if line.endswith(r"\\"))


def test_latex_survives_any_name(files):
    found = compare(read_methods(files, "average", ["50 %_of {x}", r"a\b & c#"]))
    assert r"50 \%\_of \{x\}" in comparison_latex(found)
    assert r"a\textbackslash{}b \& c\#" in comparison_latex(found)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"protocol": "paper"}, "different protocols, range and paper"),
        ({"images": [f"x{k:03d}" for k in range(12)]}, "different images"),
        ({"data_range": 90.0}, "other targets"),
        ({"lpips_backbone": "f"}, ""),
        ({"fields": [f"f{k}" for k in range(12)]}, "field of view"),
        ({"shift": "[1, 0]"}, "align"),
        ({"truth": "clean"}, "truths, recorded and clean"),
        ({"level": 0.5}, ""),
        ({"nrmse_by": "std"}, ""),
    ],
)
def test_tables_that_do_not_belong_together(tmp_path, changed, words):
    files = [table(tmp_path / "a", BASE), table(tmp_path / "b", BASE, **changed)]
    if not words:
        assert read_methods(files, "average"), "known in one of them only"
        return
    with pytest.raises(UserError, match=words):
        read_methods(files, "average")


def test_other_lpips_weights_are_refused(tmp_path):
    files = [table(tmp_path / name, BASE, lpips_backbone=name * 8) for name in "ab"]
    with pytest.raises(UserError, match="LPIPS weights"):
        read_methods(files, "average")


def test_other_levels_are_refused(tmp_path):
    files = [table(tmp_path / str(level), BASE, level=level) for level in (0.5, 0.9)]
    with pytest.raises(UserError, match="nominal levels"):
        read_methods(files, "average")


def test_samples_and_single_images_are_compared_by_their_crps(tmp_path):
    """Those of one method have all metrics of samples, those of the other none but the scores of an image."""
    for name, samples in (("many", 15), ("one", 1)):
        (tmp_path / name).mkdir()
        scores = gaussian_scores(images=6, samples=samples, side=32)
        write_rows([row for image in scores for row in image.rows], tmp_path / name / "metrics.csv")
    found = compare(read_methods([str(tmp_path / name) for name in ("many", "one")], "average"))
    assert found.metrics[-5:] == list(SAMPLE_METRICS)
    (crps,) = [pairing for pairing in found.pairings if pairing.metric == "crps"]
    # The CRPS of a Gaussian is 1/√π, and the mean distance between its two samples 2/√π.
    assert crps.difference.mean < 0
    many, one = (found.estimates[name, "crps"].mean for name in ("many", "one"))
    assert one / many == pytest.approx(2, rel=0.05)
    assert found.estimates["one", "coverage"] is None
    page = comparison_markdown(found)
    assert "truth: recorded" in page and "- crps: continuous ranked probability score" in page


def test_a_table_cut_off_between_images_is_noticed(files, tmp_path):
    (tmp_path / "a" / "summary.json").write_text(json.dumps({"images": 13}))
    with pytest.raises(UserError, match="lists 13"):
        read_methods(files, "average")


@pytest.mark.parametrize(
    ("files", "settings", "words"),
    [
        (1, {}, "1 given"),
        (2, {"names": ["a"]}, "1 names for 2"),
        (2, {"names": ["a", "a"]}, "is the name of two"),
    ],
)
def test_wrong_requests(tmp_path, files, settings, words):
    paths = [table(tmp_path / name, BASE) for name in "ab"]
    with pytest.raises(UserError, match=words):
        read_methods(paths[:files], "average", **settings)


def test_unknown_metrics_and_references(files):
    methods = read_methods(files, "average")
    with pytest.raises(UserError, match="no file has it"):
        compare(methods, ["psnrr"])
    with pytest.raises(UserError, match="not a method of the table"):
        compare(methods, reference="c")


def test_the_words_say_where_means_and_medians_disagree(tmp_path):
    # Worse by a little in most images, better by much in the others: for 40 images both tests follow the latter.
    gains = np.where(np.arange(40) % 20 < 11, -0.01, 5) * (1 + np.arange(40) / 1000)
    base = np.full(40, 30.0)
    found = compare(
        read_methods([table(tmp_path / "a", base + gains), table(tmp_path / "b", base)], "average")
    )
    (words,) = in_words(found)
    assert np.median(base + gains) < 30 < np.mean(base + gains)
    assert words.startswith("a and b, mean differences: a is better in")
    psnr = words.partition("psnr by ")[2].partition(";")[0]
    assert psnr.startswith(f"{gains.mean():.3g} dB [") and "though not in the median" in psnr
    means = {
        line["method"]: float(line["mean"])
        for line in csv.DictReader(io.StringIO(comparison_csv(found)))
        if line["metric"] == "psnr"
    }
    assert means["a"] - means["b"] == pytest.approx(gains.mean())
    assert "**30 [" in comparison_markdown(found)  # bold: the best median


def test_equivalent_methods_are_said_to_be_so(tmp_path):
    close = [
        table(tmp_path / name, BASE + shift * WOBBLE) for name, shift in (("a", 0), ("b", 0.1), ("c", 3))
    ]
    found = compare(read_methods(close, "average"), ["psnr"])
    equal = {(p.first, p.second): p.equivalent for p in found.pairings}
    assert equal == {("a", "b"): True, ("a", "c"): False, ("b", "c"): False}
    assert "equivalent within 0.1 dB" in in_words(found)[0] and "equivalent" not in in_words(found)[1]
    lines = list(csv.DictReader(io.StringIO(differences_csv(found))))
    assert [line["equivalent"] for line in lines] == ["yes", "no", "no"]


def test_ten_thousand_images_take_seconds(tmp_path):
    many = np.random.default_rng(1).normal(30, 2, 10_000)
    names = [f"{k:05d}" for k in range(10_000)]
    methods = [
        Method(
            name,
            "average",
            tmp_path / name,
            {
                image: Row(
                    image, "", "average", {"psnr": value, "lpips": 1 / value}, {}, {"protocol": "range"}
                )
                for image, value in zip(names, many + shift, strict=True)
            },
        )
        for name, shift in (("a", 0.0), ("b", 0.1))
    ]
    before = time.process_time()
    found = compare(methods)
    assert time.process_time() - before < 30
    assert all(pairing.significant for pairing in found.pairings)
