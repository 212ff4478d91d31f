"""The page on which people choose: blinded, whole, and usable by keys in a real browser."""

import json
import re
import shutil
import subprocess
from urllib.parse import unquote

import numpy as np
import pytest
import tifffile

from ddpm_lightning.utils.errors import UserError
from experiments.visual_assessment.page import make_trials, write_page
from experiments.visual_assessment.preferences import choices_of

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: Begins as an observer, goes back once, and answers with keys; a click on the last pair.
OBSERVER = """<script>
document.getElementById("observer").value = "Ann B";
document.getElementById("who").requestSubmit();
for (const key of ["ArrowLeft", "Backspace", "ArrowRight", "1", "2"])
  document.dispatchEvent(new KeyboardEvent("keydown", { key }));
for (let i = 3; i < study.trials.length; i++) document.getElementById("left").click();
document.title = JSON.stringify(order);
</script></body>"""


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for version in ("secret_average", "secret_sample", "target"):
        (tmp_path / version).mkdir()
        for name in ("one.tif", "two.tif", "three.tif", "four.tif"):
            tifffile.imwrite(tmp_path / version / name, rng.normal(size=(40, 40)).astype(np.float32))
    return {version: tmp_path / version for version in ("secret_average", "secret_sample")}


def test_each_pair_of_versions_comes_once_for_each_image_on_both_sides_alike():
    trials = make_trials([str(i) for i in range(100)], ["a", "b", "c"], seed=0)
    assert len({(t.image, frozenset(t.versions)) for t in trials}) == len(trials) == 300
    first = sum(t.versions[0] < t.versions[1] for t in trials)
    assert 110 < first < 190  # five standard deviations of fair coins
    assert trials == make_trials([str(i) for i in range(100)], ["a", "b", "c"], seed=0)
    assert trials != make_trials([str(i) for i in range(100)], ["a", "b", "c"], seed=1)


def test_the_page_names_no_version_and_needs_no_network(folders, tmp_path):
    trials = write_page(folders, tmp_path / "target", tmp_path / "page", seed=5)
    text = (tmp_path / "page/page.html").read_text("utf-8")
    assert "secret" not in text and "one.tif" not in text and not re.search(r"https?://", text)
    assert text.count("data:image/png;base64,") == 3 * len(trials) == 12
    key = json.loads((tmp_path / "page/key.json").read_text())
    assert [(t["image"], tuple(t["versions"])) for t in key["trials"]] == [
        (t.image, t.versions) for t in trials
    ]


def test_folders_that_cannot_be_compared_are_refused(folders, tmp_path):
    with pytest.raises(UserError, match="two or more"):
        write_page({"a": folders["secret_sample"]}, None, tmp_path / "page")
    tifffile.imwrite(folders["secret_sample"] / "one.tif", np.zeros((8, 8), np.float32))
    with pytest.raises(UserError, match="shapes"):
        write_page(folders, None, tmp_path / "page")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image in common"):
        write_page({**folders, "c": tmp_path / "empty"}, None, tmp_path / "page")
    assert not (tmp_path / "page").exists()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_takes_keys_and_saves_answers_that_can_be_read(folders, tmp_path):
    trials = write_page(folders, tmp_path / "target", tmp_path / "page", seed=5)
    text = (tmp_path / "page/page.html").read_text("utf-8").replace("</body>", OBSERVER)
    (tmp_path / "observed.html").write_text(text, "utf-8")
    common = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
    subject = f"file://{tmp_path / 'observed.html'}"
    found = subprocess.run(
        [*common, "--dump-dom", subject], capture_output=True, text=True, timeout=240
    ).stdout
    address = re.search(r'id="json"[^>]*href="data:application/json;charset=utf-8,([^"]+)"', found).group(1)
    answers = json.loads(unquote(address))
    order = json.loads(re.search(r"<title>(.*?)</title>", found).group(1))
    assert answers["observer"] == "Ann B" and 'download="answers_Ann_B.json"' in found
    assert [a["side"] for a in answers["answers"]] == ["right", "left", "right", "left"]
    assert sorted(a["trial"] for a in answers["answers"]) == list(range(len(trials)))
    for answer, shown in zip(answers["answers"], order, strict=True):
        assert answer["trial"] == shown["trial"]
        assert answer["chosen"] == int((answer["side"] == "right") != shown["swapped"])
    key = json.loads((tmp_path / "page/key.json").read_text())
    assert len(choices_of(key, [answers])) == len(trials)
