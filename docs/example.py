"""Makes the example image of the package and the figure in the README: ``python docs/example.py``.

The example is a simulated zebrafish embryo; its clean partner is shown in the figure and is not shipped.
"""

import io
from pathlib import Path

import matplotlib
import numpy as np
import tifffile
from PIL import Image

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.sources import EXAMPLE

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend comes first: there may be no screen)

NUMBER, SIZE, PIXEL_SIZE = 8, 256, 0.2  # index in the test split, side in pixels, pixel size in µm
FIGURE = Path(__file__).parent / "example.png"


def write_example(pair: Pair, path: Path) -> None:
    """Writes the noisy image of a pair as OME-TIFF."""
    unit = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    size = {"PhysicalSizeX": PIXEL_SIZE, "PhysicalSizeY": PIXEL_SIZE}
    tifffile.imwrite(
        path, pair.low, ome=True, compression="zlib", predictor=True, metadata={"axes": "YX", **size, **unit}
    )


def plot(pair: Pair, restored: Restoration, path: Path) -> None:
    """Plots noisy image, posterior mean and standard deviation, and the clean image."""
    images = {
        "noisy image": (pair.low, "gray"),
        "restored: posterior mean": (restored.mean, "gray"),
        "uncertainty: standard deviation": (restored.std, "cividis"),
        "clean image": (pair.high, "gray"),
    }
    figure, axes = pyplot.subplots(1, len(images), figsize=(12.4, 3.3), layout="constrained")
    for axis, (title, (image, colours)) in zip(axes, images.items(), strict=True):
        darkest, brightest = np.percentile(image, (0.5, 99.8))
        axis.imshow(image, cmap=colours, vmin=darkest, vmax=brightest, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100)
    # 128 colours keep the file small.
    colours = (
        Image.open(drawn).convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    colours.save(path, optimize=True)


if __name__ == "__main__":
    example = SimulatedPairs("zebrafish", "test", NUMBER + 1, SIZE, extras=False)[NUMBER]
    write_example(example, EXAMPLE)
    plot(example, Restorer.load("default").restore(example.low), FIGURE)
