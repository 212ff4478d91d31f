"""Tables of transfer and warnings from rows whose answer is known."""

from pathlib import Path

import pytest

from experiments import common
from experiments.cross_dataset import run as cross

REAL = "fmd"
HARM = 4.0


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, str]:
    """Two methods: on foreign sets both lose 4 dB, and `care` is warned of on the first image of each."""
    folder = tmp_path_factory.mktemp("cross")
    rows = []
    for name in (*common.SPECIMENS, REAL):
        models = [("", "raw", 20.0), (cross.ALL, cross.SHIPPED, 28.0)]
        for trained in common.SPECIMENS:
            harm = 0.0 if trained == name else HARM
            models += [(trained, "gaussian", 25.0 - harm), (trained, "care", 28.5 - harm)]
        for trained, method, level in models:
            for image in range(2):
                said = "pixel size" if trained not in ("", name, cross.ALL) else ""
                if said and image == 0:
                    said = f"noise;{said}"
                about = {"trained": trained, "method": method, "set": name, "image": str(image), "field": ""}
                scores = {"psnr": str(level + image), "ms_ssim": "0.9", "lpips": ""}
                rows.append(about | scores | {"warnings": said})
    common.Rows(folder / "results" / "cross_dataset.csv", {}, ("method",)).add(rows)
    found = dict(cross.report(folder))
    assert (folder / "cross_dataset.png").stat().st_size > 1000
    readme = folder / "README.md"
    readme.write_text((Path(cross.__file__).parent / "README.md").read_text("utf-8"))
    common.fill(readme, found)
    return found


def line(table: str, begin: str) -> list[str]:
    (found,) = [row for row in table.splitlines() if row.startswith(f"| {begin} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_what_a_method_loses_is_paired_with_its_like_trained_on_the_set(tables):
    cells = line(tables["transfer"], "care")
    assert cells[1:4] == ["8.50 (8.50 to 8.50)", "4.50 (4.50 to 4.50)", "-4.00 (-4.00 to -4.00)"]
    # 24.5 dB are below the 25 dB of the blur fitted there, in all of 4 x 3 cases.
    assert cells[4] == "12 of 12"
    assert cells[5] == "4.50 (4.50 to 4.50)"


def test_the_shipped_model_knows_all_simulated_sets_and_no_real_one(tables):
    cells = line(tables["transfer"], cross.SHIPPED)
    assert cells[1] == "8.00 (8.00 to 8.00)" and cells[2:5] == ["", "", ""]
    scores = [row for row in tables["scores"].splitlines() if row.startswith(f"| {cross.SHIPPED} ")][0]
    assert scores.count("**") == 2 * len(common.SPECIMENS) and not scores.rstrip("| ").endswith("**")


def test_warnings_are_counted_by_content_and_with_the_pixel_size(tables):
    cells = line(tables["warnings"], "synapses")
    assert cells[1:5] == ["0 of 2", "3 of 6", "6 of 6", "1 of 2"]
    assert cells[5] == "noise 4"
    assert cells[6:] == ["-4.00 (-4.00 to -4.00)"] * 2
