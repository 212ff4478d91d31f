"""Sends restored validation images to every logger that can show images."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger

__all__ = ["ImageLogger", "captioned", "show"]

#: Versions of an image in the order of their panels, and what they are called.
VERSIONS = {
    "low": "low",
    "single": "one sample",
    "average": "average",
    "std": "std over samples",
    "target": "target",
}


@runtime_checkable
class ImageLogger(Protocol):
    """A logger that shows images; any logger with these two methods gets them."""

    def log_panels(self, panels: list[tuple[np.ndarray, str]], step: int) -> None:
        """Shows images with shape (H, W), uint8, each with its caption."""

    def log_scores(self, rows: list[dict[str, Any]], step: int) -> None:
        """Shows a table with a row for each image and estimator."""


def show(
    loggers: Sequence[Logger],
    step: int,
    images: Sequence[dict[str, np.ndarray]],
    scores: Sequence[dict[str, dict]],
) -> None:
    """Logs panels with captions, and a table of the metrics of each image.

    Args:
        loggers: Loggers of the run; those that cannot show images are left out.
        step: Optimiser steps of the run.
        images: Versions of each image, normalised, with shape (H, W).
        scores: Metrics of each image for each estimator.
    """
    panels = {
        (number, name): panel
        for number, image in enumerate(images)
        for name, panel in captioned(number, image, scores[number]).items()
    }
    rows = [
        {"step": step, "image": number, "estimator": name, **values}
        for number, found in enumerate(scores)
        for name, values in found.items()
    ]
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            for (number, name), (image, caption) in panels.items():
                logger.experiment.add_image(f"panels/{number}_{name}", image, step, dataformats="HW")
                logger.experiment.add_text(f"captions/{number}_{name}", caption, step)
        elif isinstance(logger, ImageLogger):
            logger.log_panels(list(panels.values()), step)
            logger.log_scores(rows, step)


def captioned(
    number: int, image: dict[str, np.ndarray], scores: dict[str, dict[str, Any]]
) -> dict[str, tuple[np.ndarray, str]]:
    """Returns the versions of an image with shape (H, W), uint8, with captions.

    All share the grey scale of the target, from its 0.1 to its 99.9 percentile (of the average, if there is no target);
    the standard deviation has its own, from 0.
    """
    window = np.percentile(image.get("target", image["average"]), (0.1, 99.9))
    panels = {}
    for name, title in VERSIONS.items():
        if name not in image:
            continue
        low, high = (0.0, float(image[name].max())) if name == "std" else window
        grey = (image[name] - low) / max(high - low, 1e-12)
        caption = f"image {number}: {title}"
        if "psnr" in scores.get(name, {}):
            caption += f", PSNR {scores[name]['psnr']:.2f} dB"
        if name == "std":
            caption += f", white is {high:.3g}"
        panels[name] = (grey.clip(0, 1) * 255).round().astype(np.uint8), caption
    return panels
