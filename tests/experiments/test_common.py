"""Rows that survive a stop, and the tables of READMEs."""

import csv
import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments import common

HERE = Path(common.__file__).parent
NAMES = sorted(path.parent.name for path in HERE.glob("*/run.py"))


def test_rows_resume_after_a_stop_and_start_anew_with_other_settings(tmp_path):
    path = tmp_path / "rows.csv"
    rows = common.Rows(path, {"images": 2}, ("set", "image"))
    rows.add([{"set": "a", "image": "0", "n": n, "psnr": 20.123456789} for n in (1, 2)])
    again = common.Rows(path, {"images": 2}, ("set", "image"))
    assert again.has(set="a", image="0") and not again.has(set="a", image="1")
    again.add([{"set": "a", "image": "1", "n": 1, "psnr": 1.0}])
    with path.open(newline="") as file:
        assert [(row["image"], row["psnr"]) for row in csv.DictReader(file)] == [
            ("0", "20.1235"),
            ("0", "20.1235"),
            ("1", "1"),
        ]
    assert not common.Rows(path, {"images": 3}, ("set", "image")).has(set="a", image="0")


def test_mean_is_that_of_numpy_and_its_interval_goes_by_fields():
    values = [1.0, 2.0, 3.0, 10.0]
    apart = [{"image": str(i), "field": str(i), "x": str(v)} for i, v in enumerate(values)]
    assert common.mean(apart, "x").startswith(f"{np.mean(values):.2f} (1.")
    together = [row | {"field": "one"} for row in apart]
    assert common.mean(together, "x") == "4.00"


def test_fill_renews_a_table_and_nothing_else(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n\n<!-- a -->\nold\n<!-- end a -->\nafter\n")
    common.fill(readme, {"a": "new"})
    common.fill(readme, {"a": "new"})
    assert readme.read_text() == "before\n\n<!-- a -->\n\nnew\n\n<!-- end a -->\nafter\n"
    with pytest.raises(ValueError, match="no place for the table b"):
        common.fill(readme, {"b": ""})


@pytest.mark.parametrize("name", NAMES)
def test_the_tables_of_a_readme_are_those_of_the_committed_rows(name, tmp_path):
    if not (HERE / name / "results").is_dir():
        pytest.skip("no rows are committed")
    shutil.copytree(HERE / name / "results", tmp_path / "results")
    shutil.copy(HERE / name / "README.md", tmp_path / "README.md")
    common.fill(tmp_path / "README.md", importlib.import_module(f"experiments.{name}.run").report(tmp_path))
    assert (tmp_path / "README.md").read_text("utf-8") == (HERE / name / "README.md").read_text("utf-8")


def test_the_table_of_the_front_page_is_that_of_the_benchmark(tmp_path):
    front = importlib.import_module("experiments.benchmark.run").front(HERE / "benchmark")
    page = HERE.parent / "README.md"
    shutil.copy(page, tmp_path / "README.md")
    common.fill(tmp_path / "README.md", front)
    assert (tmp_path / "README.md").read_text("utf-8") == page.read_text("utf-8")
