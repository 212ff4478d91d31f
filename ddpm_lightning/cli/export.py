"""Writes a trained model as a file to pass on: a BioImage.IO package, or its weights alone.

Examples:
  ddpm-lightning export checkpoint=runs/demo/checkpoints/best.ckpt output=microtubules.zip authors='[A. Scientist]'
  ddpm-lightning export checkpoint=CKPT output=model.zip samples=5 sample=noisy.tif name='Microtubules, low dose'
  bioimageio test microtubules.zip
  ddpm-lightning export checkpoint=CKPT output=microtubules.safetensors authors='[A. Scientist]'

NAME.safetensors is for this program: weights and the card, a fifth of the checkpoint, which every command takes in its
place with the same results. half=true stores the weights in half precision, a tenth of the checkpoint, with results
that differ by about a thousandth. It can be used but not trained further.

NAME.zip is for other programs (deepImageJ, ilastik, napari, Fiji). It contains the whole restoration as TorchScript,
from intensities to the mean and, of two samples or more, the standard deviation of a fixed number of samples, with a
test image, a cover and a documentation that states its limits. Classical filters, such as model=gaussian, are not
trained: there is nothing to export. Needs the extra `export`: pip install 'ddpm-lightning[export]'.
"""

import shlex

from omegaconf import DictConfig

from ddpm_lightning.checkpoints.safetensors_file import SUFFIX
from ddpm_lightning.cli import compose
from ddpm_lightning.inference.export_model import ExportSettings, export_model

__all__ = ["run"]


def run(config: DictConfig) -> int:
    """Exports as the configuration says."""
    path = export_model(ExportSettings.of(compose.plain(config)))
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
    if path.suffix != SUFFIX:
        print(f"check it with: {shlex.join(['bioimageio', 'test', str(path)])}")
        print(f"the package is for other programs; for this one, export with output=NAME{SUFFIX}")
    return 0
