"""What tests share: real images where there are any, small files, and one thread, so that timings mean something."""

import functools
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from tests.command import call

torch.set_num_threads(1)
# Whoever starts the tests in the background, or by nohup, has these ignored, and the package would keep them so.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real images and metric weights beside the checkout, or wherever DDPM_LIGHTNING_SHARED says."""
    beside = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("DDPM_LIGHTNING_SHARED", beside))
    if not folder.is_dir():
        pytest.skip("no folder of real images: set DDPM_LIGHTNING_SHARED")
    return folder


@pytest.fixture(scope="module")
def blank_figures():
    """Figures become files of one pixel: matplotlib takes most of the time of an evaluation."""
    from matplotlib.figure import Figure

    def save(self: Figure, file: str | os.PathLike, **settings: object) -> None:
        Image.new("L", (1, 1)).save(file, "PNG")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@pytest.fixture
def pair_folder(tmp_path: Path) -> Path:
    """A small data set of 16-bit pairs in the layout of ``data=folder``: blurred blobs and their noisy copies."""
    return write_pairs(tmp_path / "pairs")


def write_pairs(root: Path, size: int = 64, dtype: str = "uint16", scale: int = 1) -> Path:
    """Writes {train: 4, val: 2, test: 3} pairs; the high image is smooth, the low one is Poisson noise around it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for number in range(count):
            high = np.full((size, size), 5.0)
            for _ in range(6):
                cy, cx, width = *rng.uniform(0, size, 2), rng.uniform(2, 5)
                high += 60 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
            for role, image in (("low", rng.poisson(high / 6)), ("high", rng.poisson(high * 3))):
                path = root / split / role / f"{number:05d}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, (scale * image).astype(dtype))
    return root


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Calls the command line from an empty folder."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(call, capsys=capsys, monkeypatch=monkeypatch)
