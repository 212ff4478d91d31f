"""A BioImage.IO package of a trained model: weights, test input and output, cover, documentation, axes with scale.

The package follows version 0.5 of https://bioimage-io.github.io/spec-bioimage-io and is checked by its own validator,
``bioimageio test PACKAGE.zip``. Both belong to the extra ``export``.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.inference.export import RestorationModule, save, traced
from ddpm_lightning.utils.atomic import atomic_write, disk_full_errors
from ddpm_lightning.utils.errors import UserError

__all__ = ["About", "sample_of", "specification", "write_package"]

#: Maximum side of the test image in pixels.
SAMPLE = 256
OUTPUTS = ("restored", "std")


@dataclass(frozen=True)
class About:
    """Metadata of a package.

    Attributes:
        name: Name of the model, 5 to 128 letters, digits, spaces, ``_ + - ( )``.
        description: One sentence.
        authors: Names of the authors.
        license: SPDX identifier of the licence of the weights.
        cite: What to cite, as (text, DOI or address).
        tags: Keywords for searching.
    """

    name: str
    description: str
    authors: tuple[str, ...]
    license: str = "BSD-3-Clause"
    cite: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ("denoising", "restoration", "diffusion", "fluorescence-light-microscopy", "2d")


def specification() -> ModuleType:
    """Returns the classes of the specification.

    Raises:
        UserError: If the extra is not installed.
    """
    try:
        from bioimageio.spec.model import v0_5
    except ImportError as error:
        raise UserError(
            "export",
            f"needs bioimageio.core ({error})",
            remedy="pip install 'ddpm-lightning[export]'",
        ) from error
    return v0_5


def sample_of(image: np.ndarray, size_divisor: int) -> np.ndarray:
    """Returns the middle of an image as a test input with shape (1, 1, h, w), float32.

    Raises:
        UserError: If it is too small.
    """
    sides = [min(SAMPLE, length) // size_divisor * size_divisor for length in image.shape]
    if min(sides) < max(size_divisor, 32):
        raise UserError(
            "sample",
            f"is {image.shape[0]} x {image.shape[1]} pixels",
            allowed=f"at least {max(size_divisor, 32)} on each side",
        )
    corner = [(length - side) // 2 for length, side in zip(image.shape, sides, strict=True)]
    part = tuple(slice(at, at + side) for at, side in zip(corner, sides, strict=True))
    return np.ascontiguousarray(image[part], np.float32)[None, None]


def write_package(
    trained: Trained, sample: np.ndarray, samples: int, about: About, path: Path, seed: int = 0
) -> None:
    """Writes the package.

    Args:
        trained: A trained method, on the CPU.
        sample: Test input; see :func:`sample_of`.
        samples: Samples that are averaged.
        about: Metadata of the package.
        path: The zip to write.
        seed: Seed of the samples.

    Raises:
        UserError: If the model cannot be exported, or its metadata are invalid.
    """
    specification()
    from bioimageio.spec import save_bioimageio_package
    from pydantic import ValidationError

    restoration = RestorationModule(trained, samples, seed)
    module = traced(restoration, torch.from_numpy(sample))
    with tempfile.TemporaryDirectory() as name, disk_full_errors(name):
        folder = Path(name)
        save(module, folder / "weights.pt")
        # The test output is that of the weights as stored.
        with torch.no_grad():
            made = torch.jit.load(str(folder / "weights.pt"))(torch.from_numpy(sample))
        # A single sample has no standard deviation.
        outputs = dict(zip(OUTPUTS, made if restoration.has_std else (made,), strict=False))
        np.save(folder / "low.npy", sample)
        for output, values in outputs.items():
            np.save(folder / f"{output}.npy", values.numpy())
        images = {"low": sample[0, 0], **{key: values.numpy()[0, 0] for key, values in outputs.items()}}
        _cover(images, folder / "cover.png")
        (folder / "README.md").write_text(_documentation(trained, restoration, about), encoding="utf-8")
        try:
            model = _description(trained, restoration, about, folder)
            save_bioimageio_package(model, output_path=folder / "package.zip")
        except (ValidationError, ValueError) as error:
            raise UserError("export", " ".join(str(error).split())) from error
        with atomic_write(path) as partial:
            shutil.copyfile(folder / "package.zip", partial)


def _description(trained: Trained, restoration: RestorationModule, about: About, folder: Path) -> Any:
    """Returns the description of the package in the classes of the specification."""
    spec = specification()
    pixel_size = trained.card.get("pixel_size_um")
    scale = {"scale": pixel_size, "unit": "micrometer"} if pixel_size else {}
    step = restoration.size_divisor
    # A reflected margin must be narrower than the image.
    least = -(-max(32, restoration.margin + 1) // step) * step

    def file(name: str) -> Any:
        return spec.FileDescr(source=folder / name)

    def channel(name: str) -> Any:
        return spec.ChannelAxis(channel_names=[spec.Identifier(name)])

    low = spec.InputTensorDescr(
        id=spec.TensorId("low"),
        description="noisy image in intensities of the camera",
        axes=[
            spec.BatchAxis(size=1),
            channel("intensity"),
            *(
                spec.SpaceInputAxis(
                    id=spec.AxisId(axis), size=spec.ParameterizedSize(min=least, step=step), **scale
                )
                for axis in "yx"
            ),
        ],
        test_tensor=file("low.npy"),
        data=spec.IntervalOrRatioDataDescr(type="float32"),
    )
    meanings = {"restored": f"{restoration.made}, in intensities"}
    if restoration.has_std:
        meanings["std"] = f"standard deviation, in intensities; {_size_of_std(restoration)}"
    outputs = [
        spec.OutputTensorDescr(
            id=spec.TensorId(name),
            description=meaning,
            axes=[
                spec.BatchAxis(size=1),
                channel(name),
                *(
                    spec.SpaceOutputAxis(
                        id=spec.AxisId(axis),
                        size=spec.SizeReference(tensor_id=spec.TensorId("low"), axis_id=spec.AxisId(axis)),
                        **scale,
                    )
                    for axis in "yx"
                ),
            ],
            test_tensor=file(f"{name}.npy"),
            data=spec.IntervalOrRatioDataDescr(type="float32"),
        )
        for name, meaning in meanings.items()
    ]
    version = spec.Version(str(torch.__version__).split("+")[0])
    weights = spec.TorchscriptWeightsDescr(source=folder / "weights.pt", pytorch_version=version)
    return spec.ModelDescr(
        name=about.name,
        description=about.description,
        authors=[spec.Author(name=author) for author in about.authors],
        cite=[_citation(spec, text, source) for text, source in about.cite],
        license=spec.LicenseId(about.license),
        documentation=file("README.md"),
        covers=[file("cover.png")],
        tags=list(about.tags),
        inputs=[low],
        outputs=outputs,
        weights=spec.WeightsDescr(torchscript=weights),
    )


def _citation(spec: ModuleType, text: str, source: str) -> Any:
    if source.startswith("10."):
        return spec.CiteEntry(text=text, doi=spec.Doi(source))
    return spec.CiteEntry(text=text, url=spec.HttpUrl(source))


def _cover(images: dict[str, np.ndarray], path: Path) -> None:
    """Plots images side by side, each on a scale of its own."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(images), figsize=(3 * len(images), 3.2), layout="constrained")
    for axis, (title, image) in zip(axes, images.items(), strict=True):
        least, greatest = np.percentile(image, (0.5, 99.8))
        colours = "cividis" if title == "std" else "gray"
        axis.imshow(image, cmap=colours, vmin=least, vmax=max(greatest, least + 1e-6))
        axis.set_title(title)
        axis.set_axis_off()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _size_of_std(restoration: RestorationModule) -> str:
    """Says whether the size of the standard deviation is calibrated."""
    if (found := restoration.calibration) is None:
        return "it ranks pixels by uncertainty, but its size is not calibrated"
    return f"it is multiplied by {found.std_factor:.3g}, the factor measured on {found.origin}"


def _documentation(trained: Trained, restoration: RestorationModule, about: About) -> str:
    names, method = trained.card["names"], trained.method
    pixel_size = trained.card.get("pixel_size_um")
    seen = f"a pixel size of {pixel_size:g} µm" if pixel_size else "a pixel size that was not recorded"
    std = (
        f"its standard deviation ({_size_of_std(restoration)})"
        if restoration.has_std
        else "no standard deviation"
    )
    output = f"{restoration.made} ({method.preset}), and {std}"
    return f"""# {about.name}

{about.description}

Restores a noisy grey image with `{names.get("model", "a model")}`, trained on `{names.get("data", "pairs")}` at
{seen}, by ddpm-lightning. The TorchScript file is the whole restoration, from intensities to intensities: {output}.
The noise of the samples is part of the file, so that the same image always gives the same result.

Checkpoint: sha256 `{trained.sha256}`.

# Limits

- Images that differ from the training images (structure, dose, microscope, pixel size) give results that look sharp but
  may be wrong. `ddpm-lightning restore` warns of this; this package cannot.
- A large image must be restored as a whole, or by `ddpm-lightning restore`, which blends tiles at every step. Tiles
  that are restored separately have different noise, and seams may be visible.
- Sides must be divisible by {restoration.size_divisor} and larger than {restoration.margin} pixels.

# Validation

The test output was computed from the test input by the stored weights. Score the model on pairs that it has not seen:
`ddpm-lightning evaluate checkpoint=CKPT data=folder data.root=PAIRS`.
"""
