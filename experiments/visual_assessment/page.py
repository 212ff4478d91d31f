"""Writes a page on which people choose between two versions of an image without knowing which is which.

python -m experiments.visual_assessment.page --version average=DIR --version one_sample=DIR --reference DIR \
    --output FOLDER --seed 0

Folders hold images of equal names. ``FOLDER/page.html`` goes to the observers: it needs no network and names no
version. ``FOLDER/key.json`` says which version each image is; do not pass it on. Each observer sees the trials in
a random order and on random sides, which depend on the seed and the observer's name. The page saves the answers as
a file, which ``preferences.py`` reads.
"""

import argparse
import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from ddpm_lightning.utils.atomic import write_json, write_text
from ddpm_lightning.utils.errors import UserError

__all__ = ["Trial", "make_trials", "write_page"]

TEMPLATE = Path(__file__).with_name("page.html")
QUESTIONS = {
    True: "Which of the two shows the same as the reference?",
    False: "Which of the two would you rather work with?",
}
PERCENTILES = (0.3, 99.8)


@dataclass(frozen=True)
class Trial:
    """One choice.

    Attributes:
        image: Name of the image.
        versions: The two versions, in the random order in which the page stores them.
    """

    image: str
    versions: tuple[str, str]


def make_trials(images: Sequence[str], versions: Sequence[str], seed: int) -> list[Trial]:
    """Returns a trial for each image and pair of versions, in random order.

    Args:
        images: Names of the images.
        versions: Names of the versions, at least two.
        seed: Seed of orders and sides.
    """
    rng = np.random.default_rng(seed)
    trials = []
    for image in images:
        for pair in combinations(versions, 2):
            first, second = rng.permutation(pair).tolist()
            trials.append(Trial(image, (first, second)))
    return [trials[place] for place in rng.permutation(len(trials))]


def write_page(
    versions: Mapping[str, Path], reference: Path | None, output: Path, seed: int = 0, side: int = 256
) -> list[Trial]:
    """Writes page and key.

    Args:
        versions: Folder of each version, by name.
        reference: Folder of clean images that are shown beside the two, or ``None``.
        output: Folder for ``page.html`` and ``key.json``.
        seed: Seed of orders and sides.
        side: Side in pixels of the central square that is shown.

    Raises:
        UserError: If folders share no image, or an image has different sizes in them.
    """
    if len(versions) < 2:
        raise UserError("--version", f"{len(versions)} given", "two or more", "add --version NAME=DIR")
    folders = {**versions, **({"reference": reference} if reference else {})}
    names = sorted(
        set.intersection(*({path.name for path in Path(f).glob("*.tif")} for f in folders.values()))
    )
    if not names:
        given = ", ".join(str(folder) for folder in folders.values())
        raise UserError(given, "have no image in common", "folders with .tif files of equal names")
    trials = make_trials(names, list(versions), seed)
    encoded = {name: encoded_images(name, folders, side) for name in names}
    shown: list[dict[str, Any]] = [
        {
            "pictures": [encoded[trial.image][version] for version in trial.versions],
            "reference": encoded[trial.image].get("reference"),
        }
        for trial in trials
    ]
    study = {"seed": seed, "question": QUESTIONS[reference is not None], "trials": shown}
    text = TEMPLATE.read_text("utf-8").replace("/*STUDY*/null", json.dumps(study).replace("</", "<\\/"))
    key = {"seed": seed, "trials": [{"image": t.image, "versions": t.versions} for t in trials]}
    write_text(output / "page.html", text)
    write_json(output / "key.json", key)
    return trials


def encoded_images(name: str, folders: Mapping[str, Path], side: int) -> dict[str, str]:
    """Returns the versions of an image as data URLs of PNG files.

    A version is shown in grey from its own 0.3 to its own 99.8 percentile: a gain or an offset must not reveal it.

    Args:
        name: Name of the file in each folder.
        folders: Folder of each version.
        side: Side in pixels of the central square that is shown.
    """
    images = {
        version: np.squeeze(tifffile.imread(Path(folder) / name)) for version, folder in folders.items()
    }
    shapes = {version: image.shape for version, image in images.items()}
    if len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 2:
        raise UserError(name, f"has the shapes {shapes}", "one plane of one size in all folders")
    found = {}
    for version, image in images.items():
        top, left = (max(0, (size - side) // 2) for size in image.shape)
        cut = image[top : top + side, left : left + side].astype(np.float64)
        low, high = np.percentile(cut, PERCENTILES)
        grey = np.clip((cut - low) / max(high - low, 1e-12), 0, 1)
        file = io.BytesIO()
        Image.fromarray((255 * grey).round().astype(np.uint8)).save(file, format="PNG", optimize=True)
        found[version] = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the page that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m experiments.visual_assessment.page")
    parser.add_argument("--version", action="append", required=True, metavar="NAME=DIR", dest="versions")
    parser.add_argument("--reference", type=Path, metavar="DIR", help="clean images to show beside the two")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0, help="seed of orders and sides")
    parser.add_argument("--side", type=int, default=256, help="side of the central square that is shown")
    chosen = parser.parse_args(arguments)
    versions = dict(item.split("=", 1) for item in chosen.versions if "=" in item)
    if len(versions) < len(chosen.versions):
        parser.error("--version takes NAME=DIR, each name once")
    try:
        trials = write_page(
            {name: Path(folder) for name, folder in versions.items()},
            chosen.reference,
            chosen.output,
            chosen.seed,
            chosen.side,
        )
    except UserError as error:
        parser.exit(2, f"{error}\n")
    print(
        f"{len(trials)} trials in {chosen.output / 'page.html'}; keep {chosen.output / 'key.json'} to yourself"
    )


if __name__ == "__main__":
    main()
