"""A trained model as one file to share: a BioImage.IO package, or a safetensors file for this program."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from ddpm_lightning.checkpoints.load import ModelSettings, Trained, load
from ddpm_lightning.checkpoints.safetensors_file import SUFFIX, write_safetensors
from ddpm_lightning.inference.bioimage import About, sample_of, specification, write_package
from ddpm_lightning.inference.export import check_trained, divisor
from ddpm_lightning.io.tiff import read_image
from ddpm_lightning.simulation.cache import without_new_cache
from ddpm_lightning.utils.allowed_classes import trusted_packages
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.settings import PathText, Seed, Text

__all__ = ["ExportSettings", "export_model"]

#: A text with at least one visible letter.
Words = Annotated[str, Field(min_length=1, pattern=r"\S")]


class ExportSettings(ModelSettings):
    """Which model is exported, and what the file says of it.

    Attributes:
        output: The file to write: ``NAME.zip`` is a BioImage.IO package, ``NAME.safetensors`` is for this program.
        authors: Names of the authors of the model.
        name: Name of the model; by default that of the method and of the data.
        description: One sentence.
        license: SPDX identifier of the licence of the weights.
        cite: What to cite: texts with their DOI or address.
        half: Whether a safetensors file has weights in half precision.
        seed: Seed of the samples, whose noise is part of a package.
        sample: TIFF file of a low image for the test and the cover of a package; by default one of the training's data.
    """

    output: PathText
    authors: Annotated[list[Words], Field(min_length=1)]
    name: Text | None = None
    description: Text = "Restores noisy microscopy images"
    license: Text = "BSD-3-Clause"
    cite: dict[str, Words] = {}  # noqa: RUF012  (pydantic copies it)
    half: bool = False
    seed: Seed = 0
    sample: PathText | None = None


def export_model(settings: ExportSettings) -> Path:
    """Writes a trained model to a file.

    Args:
        settings: Which model, and what the file says of it.

    Returns:
        The file.

    Raises:
        UserError: If the model cannot be exported, or the file cannot be written.
    """
    path = expanded(settings.output)
    if path.suffix not in (".zip", SUFFIX):
        raise UserError(
            f"output={path}",
            "is not the name of a package or a model file",
            allowed=f"NAME.zip, NAME{SUFFIX}",
        )
    if path.is_dir():
        raise UserError(f"output={path}", "is a folder", allowed="a file")
    if path.suffix == SUFFIX:
        _write_weights(settings, path)
    else:
        _write_package(settings, path)
    return path


def _write_weights(settings: ExportSettings, path: Path) -> None:
    if settings.preset is not None:
        raise UserError(
            f"preset={settings.preset}",
            f"is for packages; a {SUFFIX} file can be used with any preset",
            remedy="leave it out",
        )
    trained = load(settings.checkpoint, "cpu", trust=trusted_packages(settings.trust))
    check_trained(trained.method)
    about = settings.model_dump(include={"name", "description", "authors", "license", "cite"})
    training = {**trained.card.get("training", {}), "step": trained.step}
    card = {**trained.card, "about": about, "training": training}
    content = {"state_dict": trained.method.state_dict(), "card": card}
    write_safetensors(content, path, torch.float16 if settings.half else torch.float32)


def _write_package(settings: ExportSettings, path: Path) -> None:
    specification()  # a missing extra is reported before the work begins
    trained = settings.load()
    check_trained(trained.method)
    low = read_image(expanded(settings.sample)) if settings.sample else _validation_image(trained)
    names = trained.card["names"]
    about = About(
        settings.name or f"{names.get('model', 'model')} for {names.get('data', 'images')}",
        settings.description,
        tuple(settings.authors),
        settings.license,
        tuple(settings.cite.items()),
    )
    sample = sample_of(low, divisor(trained.method))
    write_package(trained, sample, trained.samples, about, path, settings.seed)


def _validation_image(trained: Trained) -> np.ndarray:
    """Returns the first low image of the validation split that a model was trained with."""
    described = {
        **without_new_cache(trained.card["data"]),
        "normalisation": trained.card["normalisation"]["config"],
    }
    try:
        return build(described, ("data",), trained.trust).pairs("val")[0].low
    except UserError as error:
        raise UserError(
            "sample",
            f"is not given, and the data of the checkpoint are not here ({' '.join(str(error).split())})",
            remedy="add sample=FILE.tif, an image like those that the model was trained on",
        ) from error
