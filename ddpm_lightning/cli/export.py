"""Writes a trained model as a file to pass on: a BioImage.IO package, or its weights alone.

Examples:
  ddpm-lightning export checkpoint=runs/demo/checkpoints/best.ckpt output=microtubules.zip authors='[A. Scientist]'
  ddpm-lightning export checkpoint=CKPT output=model.zip samples=5 sample=noisy.tif name='Microtubules, low dose'
  bioimageio test microtubules.zip
  ddpm-lightning export checkpoint=CKPT output=microtubules.safetensors authors='[A. Scientist]'

NAME.safetensors is for this program: weights and the card, a fifth of the checkpoint, which every command takes in its
place with the same results. half=true stores the weights in half precision, a tenth of the checkpoint, with results
that differ by about a thousandth. It can be used but not trained further.

NAME.zip is for other programs (deepImageJ, ilastik, napari, Fiji). It holds the restoration as a whole as TorchScript,
from intensities to the mean and, of two samples or more, the standard deviation of a fixed number of samples, with a
test image, a cover and a documentation that states its limits. Classical filters, such as model=gaussian, are not
trained: there is nothing to export. Needs the extra `export`: pip install 'ddpm-lightning[export]'.
"""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from ddpm_lightning.checkpoints.load import Trained, load
from ddpm_lightning.checkpoints.safetensors_file import SUFFIX, write_safetensors
from ddpm_lightning.cli import compose
from ddpm_lightning.evaluation.evaluate import data_of
from ddpm_lightning.inference.bioimage import About, sample_of, specification, write_package
from ddpm_lightning.inference.export import check_trained, divisor
from ddpm_lightning.io.tiff import read_image
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import expanded

__all__ = ["run"]


def run(config: DictConfig) -> int:
    """Exports as the configuration says."""
    settings = compose.plain(config)
    path = expanded(str(settings["output"]))
    if path.suffix not in (".zip", SUFFIX):
        raise UserError(f"output={path}", "is no name of a package", allowed=f"NAME.zip, NAME{SUFFIX}")
    if path.is_dir():
        raise UserError(f"output={path}", "is a folder", allowed="a file")
    authors = settings["authors"]
    if not (isinstance(authors, list) and authors and all(map(_is_text, authors))):
        raise UserError("authors", f"is {authors!r}", allowed="a list of names: authors='[A. Scientist]'")
    if not all(map(_is_text, settings["cite"].values())):
        raise UserError("cite", f"is {settings['cite']}", allowed="texts, each with its DOI or address")
    if path.suffix == SUFFIX:
        return _pack(settings, path)
    specification()  # what is missing is said before the work begins
    ways = settings["sampler"], settings["preset"], settings["samples"]
    trained = load(settings["checkpoint"], "cpu", *ways, trust=settings["trust"])
    check_trained(trained.method)
    sample = sample_of(_sample(settings["sample"], trained), divisor(trained.method))
    names = trained.card["names"]
    about = About(
        settings["name"] or f"{names.get('model', 'model')} for {names.get('data', 'images')}",
        settings["description"],
        tuple(authors),
        settings["license"],
        tuple(settings["cite"].items()),
    )
    write_package(trained, sample, trained.samples, about, path, settings["seed"])
    print(f"wrote {path}\ncheck it with: {shlex.join(['bioimageio', 'test', str(path)])}")
    print(f"the package is for other programs; for this one, export with output=NAME{SUFFIX}")
    return 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _pack(settings: dict[str, Any], path: Path) -> int:
    if settings["preset"] is not None:
        raise UserError(
            f"preset={settings['preset']}",
            f"is for packages; a {SUFFIX} file takes any preset when it is used",
            remedy="leave it out",
        )
    trained = load(settings["checkpoint"], "cpu", trust=settings["trust"])
    check_trained(trained.method)
    about = {key: settings[key] for key in ("name", "description", "authors", "license", "cite")}
    training = {**trained.card.get("training", {}), "step": trained.step}
    card = {**trained.card, "about": about, "training": training}
    content = {"state_dict": trained.method.state_dict(), "card": card}
    write_safetensors(content, path, torch.float16 if settings["half"] else torch.float32)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _sample(file: str | None, trained: Trained) -> np.ndarray:
    """Returns the test image: a file, or the first validation image of the checkpoint's own data."""
    if file is not None:
        return read_image(expanded(file))
    try:
        return data_of(trained).pairs("val")[0].low
    except UserError as error:
        raise UserError(
            "sample",
            f"is not given, and the data of the checkpoint are not here ({' '.join(str(error).split())})",
            remedy="add sample=FILE.tif, an image like those that the model was trained on",
        ) from error
