"""Tables of readouts from rows whose answer is known, and the way from an image to them."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from ddpm_lightning.data.pairs import Pair
from experiments import common
from experiments.downstream import run, tables
from experiments.downstream.puncta import PUNCTA

LABELS = (("clean", ""), ("raw", ""), ("default", "one sample"), ("default", "average"))


@pytest.fixture
def results(tmp_path):
    """Two images with 100 and 200 synapses, of which each method finds 10 % too many, and samples of a known std."""
    rng = np.random.default_rng(0)
    rows, samples = [], []
    for image in range(40):
        truth = 100 + 100 * (image % 2)
        for method, version in LABELS:
            about = {"image": f"{image}", "method": method, "field": "", "version": version}
            values = {"agreement": 0.8, "recall": 0.9, "invented": 0.25, "synapses": 1.1 * truth}
            for measure, value in values.items():
                rows.append({**about, "measure": measure, "value": value, "truth": truth})
        own = rng.normal(0, 10)
        for sample in range(15):
            about = {"image": f"{image}", "method": "default", "field": "", "target": truth + 5}
            value = truth + own + rng.normal(0, 10)
            samples.append({**about, "sample": sample, "measure": "synapses", "value": value, "truth": truth})
    for name, content in (("synapses", rows), ("synapses_samples", samples)):
        common.Rows(tmp_path / "results" / f"{name}.csv", {}, ("image",)).add(content)
    common.Rows(tmp_path / "results" / "synapses_parameters.csv", {}, ("parameters",)).add(
        [{"parameters": "width=1"}]
    )
    return tmp_path


def test_errors_are_in_percent_of_the_truth(results):
    table = run.report(results)["synapses"]
    assert table.startswith("Parameters: width=1.\n")
    (line,) = [line for line in table.splitlines() if line.startswith("| default, one sample |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1].startswith("0.80") and cells[2].startswith("0.90") and cells[3].startswith("0.25")
    assert cells[4] == "10.0 % (bias +10.0)"
    assert (results / "downstream.png").stat().st_size > 1000


def test_samples_around_a_place_of_their_own_cover_the_truth_as_often_as_they_say(results):
    (row,) = tables.deviations(common.read(results / "results" / "synapses_samples.csv"))
    method, std, wrong, ratio, inside, target, _, images = row
    assert (method, images) == ("default", "40")
    assert float(std) == pytest.approx(10 * (16 / 15) ** 0.5, rel=0.1)
    assert float(ratio) == pytest.approx(float(std) / float(wrong), rel=0.02)
    # Own place and truth differ like one sample from another: 90 %, within three standard errors of 40 images.
    assert stats.binom.cdf(round(float(inside) * 40), 40, 0.9) > 0.001 and float(target) > 0.6


def test_versions_of_a_method_that_samples_are_its_samples_and_their_average():
    pair = Pair(np.zeros((4, 4)), np.zeros((4, 4)), "0", "0", extra={"emitters": np.ones((4, 4))})
    drawing = SimpleNamespace(
        method=SimpleNamespace(deterministic=False),
        samples=lambda low, number, name: (np.full((4, 4), float(k)) for k in range(number)),
    )
    found = dict(run.versions("m", {"m": drawing}, pair))
    assert list(found) == [*(str(k) for k in range(run.SAMPLES)), "average"]
    assert np.all(found["average"] == (run.SAMPLES - 1) / 2) and np.all(found["3"] == 3)
    assert list(dict(run.versions("raw", {}, pair))) == [""]


def test_rows_of_an_image_hold_what_was_found_beside_the_truth():
    rows, columns = np.indices((64, 64))
    image = np.exp(-((rows - 20) ** 2 + (columns - 30) ** 2) / 3)
    truth = {"pairs": np.array([[[20.0, 29.5], [20.0, 30.5]]]), "orphans": np.array([[50.0, 50.0]])}
    pair = Pair(image, image, "0", "0", pixel_size=0.1, extra={"truth": truth})
    found = {
        row["measure"]: row for row in run.rows_of(PUNCTA, {"width": 1.2, "threshold": 0.3}, image, pair)
    }
    assert found["agreement"]["value"] == pytest.approx(2 / 3)
    assert (found["recall"]["value"], found["invented"]["value"]) == (0.5, 0.0)
    assert (found["synapses"]["value"], found["synapses"]["truth"]) == (1.0, 2.0)
    assert found["to the next (nm)"]["value"] == ""  # one synapse has no next
