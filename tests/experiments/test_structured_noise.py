"""The noises are what their names say, on the same specimens."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from experiments import common
from experiments.structured_noise import run as structured

SIDE = 96


@cache
def pair(noise: str):
    return common.pairs_of(common.set_of("zebrafish", *structured.NOISES[noise]), 1, SIDE)[0]


@pytest.fixture(scope="module")
def plain():
    return pair(structured.PLAIN)


def test_all_noises_are_put_on_the_same_specimen(plain):
    for noise in structured.NOISES:
        np.testing.assert_array_equal(pair(noise).high, plain.high)


def test_line_noise_is_an_offset_for_each_row(plain):
    offset = pair("line noise").low.astype(float) - plain.low
    offset = np.ma.masked_array(offset, plain.low < 40)  # darker pixels may be clipped
    assert np.ma.ptp(offset, axis=1).max() == 0
    assert 4 < offset.mean(1).std() < 12


def test_correlated_noise_is_a_blur_of_what_was_recorded(plain):
    blurred = ndimage.gaussian_filter(plain.low.astype(float), 1.0, mode="reflect")
    np.testing.assert_allclose(pair("correlated noise").low, blurred, atol=0.51)


def test_the_camera_has_a_pattern_that_all_its_images_share(plain):
    source = common.pairs_of(common.set_of("zebrafish", *structured.NOISES["sCMOS"]), 8, SIDE)
    bare = common.pairs_of(common.set_of("zebrafish"), 8, SIDE)
    pattern = [source[i].low.astype(float) - bare[i].low for i in range(8)]
    # What eight images share is mostly the offset of each pixel: N(0, 6²).
    assert 5 < np.mean(pattern, axis=0).std() < 9
    assert np.corrcoef(pattern[0].ravel(), pattern[1].ravel())[0, 1] > 0.3


def rows() -> list[dict[str, str]]:
    found = []
    for noise, harm in zip(structured.NOISES, (0, 1, 2, 3, 4), strict=True):
        levels = {("", "raw"): 10, ("", "shipped model"): 20, (structured.WRONG, "care"): 30 - 2 * harm}
        if harm:
            levels[structured.RIGHT, "care"] = 30 - 0.5 * harm
        for (trained, method), level in levels.items():
            for image in range(3):
                about = {"trained": trained, "method": method, "set": noise, "image": str(image), "field": ""}
                found.append(about | {"psnr": str(level + image), "ms_ssim": str(level / 100), "lpips": ""})
    return found


def test_losses_are_those_of_the_rows(tmp_path):
    common.Rows(tmp_path / "results" / "structured_noise.csv", {}, ("method",)).add(rows())
    tables = structured.report(tmp_path)
    last = tables["mismatch"].splitlines()[-1]
    assert last == "| care | sCMOS | 2.00 (2.00 to 2.00) | 6.00 (6.00 to 6.00) | 0.0600 (0.0600 to 0.0600) |"
    readme = tmp_path / "README.md"
    readme.write_text((Path(structured.__file__).parent / "README.md").read_text("utf-8"))
    common.fill(readme, tables)
    assert (tmp_path / "structured_noise.png").stat().st_size > 1000
