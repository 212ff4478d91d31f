"""The paper's numbers as data, and the quirks as settings."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.tree import config_folder
from experiments import common
from experiments.paper_table import run as paper

#: Mean of the clean images on the 8-bit scale: what NRMSE divides by.
BRIGHTNESS = {"microtubules": 23, "mitochondria": 14, "synapses": 22, "zebrafish": 20}


def test_every_table_of_results_is_complete():
    rows = common.read(paper.PAPER)
    tables = {
        number: [row for row in rows if row["table"] == number] for number in {r["table"] for r in rows}
    }
    assert {number: len(found) for number, found in tables.items()} == {
        **dict.fromkeys(("2", "3", "4", "5"), 7 * 4),
        **dict.fromkeys(("S3", "S4"), 7 * 2 * 2),
        "S5": 8 * 4 * 2,
    }
    assert len({(r["set"], r["method"], r["metric"]) for r in rows}) == len(rows)


@pytest.mark.parametrize("name", BRIGHTNESS)
def test_the_numbers_of_different_tables_hang_together(name):
    """RMSE from PSNR, over NRMSE of another table, is the brightness of the clean images, whatever the method."""
    values = {
        (r["method"], r["metric"]): float(r["median"]) for r in common.read(paper.PAPER) if r["set"] == name
    }
    found = [255 * 10 ** (-values[m, "psnr"] / 20) / values[m, "nrmse"] for m in paper.ROWS]
    # Medians of both over the patches: not exactly the same patch.
    np.testing.assert_allclose(found, BRIGHTNESS[name], rtol=0.2)
    ratio = values["ddpm", "resolution_nm"] / values["target", "resolution_nm"]
    assert ratio == pytest.approx(values["ddpm", "resolution_ratio"], abs=0.03)


def flat(node: object, path: str = "") -> dict[str, object]:
    if isinstance(node, dict) and node:
        return {k: v for key, below in node.items() for k, v in flat(below, f"{path}.{key}").items()}
    return {path[1:]: node}


def composed(*overrides: str) -> dict[str, object]:
    config = compose.compose("train", ["model=ddpm_small", "data=simulated_microtubules", *overrides])
    config.run_folder = "unused"
    return flat(compose.plain(config))


def test_each_quirk_changes_its_own_settings_and_all_together_change_all():
    default = composed()

    def changed(overrides: list[str]) -> set[str]:
        found = composed(*overrides)
        return {key for key in default.keys() | found.keys() if default.get(key) != found.get(key)}

    single = {name: changed(overrides) for name, overrides in (paper.RELEASE | paper.DESIGN).items()}
    assert all(single.values())
    together = changed(paper.variants()[paper.BOTH])
    assert together == set().union(*single.values())
    assert sum(map(len, single.values())) == len(together)


def test_the_quirks_of_the_release_are_those_of_its_experiment():
    text = yaml.safe_load((config_folder() / "experiment" / "released_code.yaml").read_text("utf-8"))
    quirks = {override for overrides in paper.RELEASE.values() for override in overrides}
    assert {"override /model/lr_schedule": "saw_tooth"} in text["defaults"]
    assert quirks == {
        "model/lr_schedule=saw_tooth",
        f"data.augment={str(text['data']['augment']).lower()}",
        f"data.shuffle={str(text['data']['shuffle']).lower()}",
        *(f"callbacks.{key}=null" for key, value in text["callbacks"].items() if value is None),
        *(f"trainer.{key}=null" for key, value in text["trainer"].items() if value is None),
    }


def benchmark_rows(name: str) -> list[dict[str, str]]:
    """The paper's own numbers as those of a benchmark, with the two worst methods exchanged in PSNR."""
    rows = [r for r in common.read(paper.PAPER) if r["set"] == "zebrafish" and r["method"] in paper.ROWS]
    swapped = {"raw": "unet_rcan", "unet_rcan": "raw"}
    psnr = {r["method"]: r["median"] for r in rows if r["metric"] == "psnr"}
    found = []
    for row in rows:
        median = psnr[swapped.get(row["method"], row["method"])] if row["metric"] == "psnr" else row["median"]
        about = {"set": name, "row": paper.ROWS[row["method"]], "protocol": "paper", "metric": row["metric"]}
        found.append({**about, "median": median, "low": "0", "high": "1", "images": "4", "rank": "1"})
    return found


@pytest.mark.parametrize(("name", "beside"), [("published_zebrafish", True), ("zebrafish", False)])
def test_ours_are_beside_the_papers_only_where_the_images_are_the_same(tmp_path, name, beside):
    common.Rows(tmp_path / "table.csv", {}, ("row",)).add(benchmark_rows(name))
    (tmp_path / "results").mkdir()
    paper.copy_benchmark(tmp_path / "table.csv", tmp_path / "results" / "benchmark.csv")
    rows = []
    for variant, level in ((paper.DEFAULT, 30), ("no shuffling", 29)):
        for image in range(3):
            about = {"variant": variant, "set": paper.SPECIMEN, "image": str(image), "field": ""}
            rows.append({**about, "psnr": str(level + image), "ms_ssim": "0.9", "lpips": ""})
    common.Rows(tmp_path / "results" / "quirks.csv", {}, ("variant",)).add(rows)
    tables = paper.report(tmp_path)
    assert ("32.62 / 32.62 (0 to 1)" in tables["paper"]) is beside
    assert ("| zebrafish | yes |" in tables["sets"]) is beside
    # Of seven ranks the first two exchanged: 1 - 6 * (1 + 1) / (7 * 48).
    assert (
        f"| zebrafish | PSNR (dB) ↑ | {1 - 12 / 336:.2f} | ddpm_average | ddpm_average |" in tables["order"]
    )
    assert "| no shuffling | 30.00 (29.00 to 31.00) | -1.00 (-1.00 to -1.00) |" in tables["quirks"]
    readme = tmp_path / "README.md"
    readme.write_text((Path(paper.__file__).parent / "README.md").read_text("utf-8"))
    common.fill(readme, tables)
