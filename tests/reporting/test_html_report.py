"""The report: what stands in it, and what a real browser makes of it."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import asdict
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ddpm_lightning.evaluation.image_scores import ESTIMATORS, Row
from ddpm_lightning.evaluation.tables import write_rows
from ddpm_lightning.reporting.html_report import read_evaluation, report_page
from ddpm_lightning.reporting.viewer_images import write_viewer_images
from ddpm_lightning.utils.errors import UserError

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def make_evaluation(folder, better, protocol="range", images=12, words="It is < so."):
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 100, (32, 48))
    noise = {"low": 30, "single": 6 - better, "average": 3 - better}
    versions = {name: target + rng.normal(0, scale, target.shape) for name, scale in noise.items()}
    std = np.abs(versions["single"] - versions["average"])
    view = write_viewer_images({**versions, "target": target, "std": std}, "cell <1>", 0.1, folder)
    rows = [
        Row(
            f"{i}",
            "",
            estimator,
            {"psnr": 20 + 5 * e + better + rng.normal(0, 0.1)},
            {},
            {"protocol": protocol},
        )
        for i in range(images)
        for e, estimator in enumerate(ESTIMATORS)
    ]
    write_rows(rows, folder / "metrics.csv")
    summary = {
        **{"protocol": protocol, "estimators": {}, "checkpoint": {"file": "a&b.ckpt", "sha256": "0" * 64}},
        **{"images": images, "samples": 4, "data": "cells", "split": "test", "preset": "<ddim>", "seed": 0},
        **{
            "nfe_per_sample": 5,
            "versions": {"torch": "2"},
            "in_words": [words],
            "viewer_images": [asdict(view)],
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def page(tmp_path):
    folders = [make_evaluation(tmp_path / name, better) for name, better in (("plain", 0), ("good", 2))]
    return report_page([read_evaluation(folder, folder.name) for folder in folders], "Ours & theirs")


class Tags(HTMLParser):
    """Refuses tags that are closed in another order than they were opened; remembers addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses = [], []

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "input", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_complete_and_needs_no_network(page):
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert all(address.startswith("data:") for address in tags.addresses)
    assert not re.search(r"https?://", page)
    assert "<title>Ours &amp; theirs</title>" in page and "&lt;ddim&gt;" in page and "a&amp;b.ckpt" in page


def test_numbers_are_those_of_the_tables(page, tmp_path):
    rows = [line.split(",") for line in (tmp_path / "good/metrics.csv").read_text().splitlines()]
    column = rows[0].index("psnr")
    median = np.median([float(row[column]) for row in rows[1:] if row[2] == "average"])
    assert f'<td class="best">{median:.4g}' in page
    assert "good, average of 4 is better in psnr" in page


def test_views_hold_the_images(tmp_path):
    make_evaluation(tmp_path, 0)
    target = np.array(Image.open(tmp_path / "viewer/cell__1__target.png"))
    assert target.shape == (32, 48) and target.min() == 0 and target.max() == 255
    spread = np.array(Image.open(tmp_path / "viewer/cell__1__std.png"))
    assert spread.shape == (32, 48, 4) and spread[..., 3].max() == 255


def test_standard_deviations_of_several_methods_share_a_scale(tmp_path):
    """Side by side, equal colours are equal standard deviations."""
    std = np.linspace(0, 10, 32 * 48).reshape(32, 48)
    versions = dict.fromkeys(("low", "single", "average", "target"), std)
    evaluations = []
    for name, factor in (("sure", 0.25), ("unsure", 1.0)):
        folder = make_evaluation(tmp_path / name, 0)
        view = write_viewer_images({**versions, "std": factor * std}, "cell <1>", 0.1, folder)
        content = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps({**content, "viewer_images": [asdict(view)]}))
        evaluations.append(read_evaluation(folder, name))
    text = re.search(r'id="viewer-images"[^>]*>(.*?)</script>', report_page(evaluations, "t"), re.DOTALL)[1]
    (image,) = json.loads(text)
    assert image["std_full"] == pytest.approx(10, rel=0.01)
    pictures = [
        np.array(Image.open(BytesIO(base64.b64decode(method["files"]["std"].partition(",")[2]))))
        for method in image["methods"]
    ]
    sure, unsure = (picture[..., 3].astype(float) for picture in pictures)
    np.testing.assert_allclose(sure, unsure / 4, atol=1.5)
    assert unsure.max() == 255


def test_other_protocols_stay_apart_and_say_why(tmp_path):
    folders = [make_evaluation(tmp_path / name, 0, name) for name in ("range", "affine")]
    text = report_page([read_evaluation(folder, folder.name) for folder in folders], "t")
    assert "Not in one table" in text and "different protocols" in text and text.count("<table>") == 2


@pytest.mark.parametrize(
    ("images", "evaluations", "said"),
    [
        (5, 1, "6 are needed (the smallest possible p-value is 0.062)"),
        (6, 1, ""),
        (6, 2, ""),
        (6, 3, "with 6, no difference between 3 methods"),
        (1, 2, "(the smallest possible p-value is 1)"),
    ],
)
def test_too_few_fields_to_decide_are_said_first(tmp_path, images, evaluations, said):
    folders = [make_evaluation(tmp_path / str(n), n, images=images) for n in range(evaluations)]
    text = report_page([read_evaluation(folder, folder.name) for folder in folders], "t")
    first = re.sub("<[^>]+>", "", text.split("<main>")[1]).strip().splitlines()[0]
    assert ("Too few fields of view" in first) == bool(said) and said in first


def test_marks_of_sentences_become_markup(tmp_path):
    words = "**-2 dB <b>: worse.** `evaluate` with **`split=val`**; 2 ** 3, a ` alone."
    text = report_page([read_evaluation(make_evaluation(tmp_path, 0, words=words), "x")], "t")
    shown = (
        "<strong>-2 dB &lt;b&gt;: worse.</strong> <code>evaluate</code> with <strong><code>split=val</code>"
    )
    assert f"<li>{shown}</strong>; 2 ** 3, a ` alone.</li>" in text


@pytest.mark.parametrize("content", [None, "{", '{"images": 3}'])
def test_a_folder_without_evaluation_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
        (tmp_path / "metrics.csv").write_text("")
    with pytest.raises(UserError, match="evaluat"):
        read_evaluation(tmp_path, "x")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_a_pane_for_each_method(page, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    common = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
    subject = f"file://{file}"
    found = subprocess.run([*common, "--dump-dom", subject], capture_output=True, text=True, timeout=120)
    assert re.findall(r'class="pane"><h3>(\w+)</h3>', found.stdout) == ["plain", "good"]
    assert found.stdout.count("data:image/png") >= 6 and "1 µm" in found.stdout
    shot = tmp_path / "shot.png"
    size = ["--hide-scrollbars", "--window-size=900,700", f"--screenshot={shot}"]
    subprocess.run([*common, *size, subject], capture_output=True, timeout=120, check=True)
    # The panes are there: a good part of the screen is neither paper nor ink.
    pixels = np.array(Image.open(shot).convert("L"))
    assert ((pixels > 40) & (pixels < 215)).mean() > 0.1


EVIL = "</script><script>alert(1)</script><!--<script><img src=x onerror=alert(1)>\"'&"


def strange_page(tmp_path, files):
    folder = make_evaluation(tmp_path / "odd", 0, EVIL)
    summary = json.loads((folder / "summary.json").read_text())
    summary |= {
        name: EVIL for name in ("data", "split", "preset", "seed", "lpips_backbone", "nfe_per_sample")
    }
    summary |= {"protocol": EVIL, "versions": {EVIL: EVIL}, "in_words": [EVIL]}
    summary["checkpoint"] = {"file": EVIL, "sha256": EVIL}
    summary["viewer_images"][0] |= {"image": EVIL, "files": files}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "figures").mkdir()
    return report_page([read_evaluation(folder, EVIL)], EVIL), folder


def test_whatever_others_wrote_is_escaped(tmp_path):
    text, _ = strange_page(tmp_path, {EVIL: "nothing.png"})
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and tags.addresses == []
    assert text.count("<script") == 2 and text.count("</script>") == 2 and "<!--" not in text
    assert "alert(1)&lt;/script&gt;" in text
    data = re.search(
        r'<script type="application/json" id="viewer-images">(.*?)</script>', text, re.DOTALL
    ).group(1)
    assert EVIL in json.loads(data)[0]["name"]


def test_only_our_own_script_may_run(page):
    allowed = re.search(r"script-src 'sha256-([^']+)'", page).group(1)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL).group(1)
    assert base64.b64decode(allowed) == hashlib.sha256(script.encode()).digest()


def test_only_images_inside_of_the_evaluation_are_embedded(tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("L", (4, 4)).save(secret)
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "odd"
    (folder / "viewer").mkdir(parents=True)
    (folder / "viewer/link.png").symlink_to(secret)
    (folder / "viewer/text.png").write_text("secret")
    (folder / "viewer/own.png").write_bytes(secret.read_bytes())
    files = {
        **{
            "absolute": str(secret),
            "above": "../secret.png",
            "link": "viewer/link.png",
            "text": "viewer/text.png",
        },
        **{"folder": "viewer", "nothing": "", "round": "viewer/../../secret.png", "own": "viewer/own.png"},
    }
    text, _ = strange_page(tmp_path, files)
    data = re.search(
        r'<script type="application/json" id="viewer-images">(.*?)</script>', text, re.DOTALL
    ).group(1)
    assert list(json.loads(data)[0]["methods"][0]["files"]) == ["own"]


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": 3},
        {
            "viewer_images": [
                {"image": "a", "files": {"low": 3}, "size": [1, 2], "pixel_size": None, "std_full": 0}
            ]
        },
        {
            "viewer_images": [
                {"image": "a", "files": {}, "size": ["1;x", 2], "pixel_size": None, "std_full": 0}
            ]
        },
        {"viewer_images": [{"image": "a", "files": {}, "size": [1, 2], "pixel_size": "x", "std_full": 0}]},
        {"viewer_images": 3},
        {"samples": "4"},
        {"images": [1]},
    ],
)
def test_summaries_of_another_kind_are_refused(tmp_path, change):
    folder = make_evaluation(tmp_path, 0)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | change))
    with pytest.raises(UserError, match="no summary"):
        read_evaluation(folder, "x")
