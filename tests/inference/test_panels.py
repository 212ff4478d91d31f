import numpy as np
import pytest
from matplotlib import image as images

from ddpm_lightning.inference.panels import panel


def versions(seed, size=(40, 52)):
    rng = np.random.default_rng(seed)
    return {name: rng.gamma(2, 10, size) for name in ("low", "single", "average", "std", "target")}


def test_a_panel_shows_the_images(tmp_path):
    panel(
        [versions(0)], tmp_path / "new" / "a.png", [{"single": "PSNR 20 dB"}], pixel_size=0.02, title="blobs"
    )
    panel([versions(1)], tmp_path / "b.png", [{"single": "PSNR 20 dB"}], pixel_size=0.02, title="blobs")
    a, b = (images.imread(path) for path in (tmp_path / "new" / "a.png", tmp_path / "b.png"))
    assert a.shape[1] > 3 * a.shape[0] and a.std() > 0.1
    assert a.shape != b.shape or (a != b).mean() > 0.1


@pytest.mark.parametrize("pixel_size", [None, 0.005, 1.3])
def test_constant_images_and_any_pixel_size(tmp_path, pixel_size):
    panel(
        [{name: np.full((20, 20), 3.0) for name in versions(0)}] * 2,
        tmp_path / "a.png",
        pixel_size=pixel_size,
    )
    assert (tmp_path / "a.png").stat().st_size > 1000
