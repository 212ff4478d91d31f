"""Writes a trained model to a file that can be passed on: a BioImage.IO package, or the weights alone.

Examples:
  ddpm-lightning export checkpoint=runs/demo/checkpoints/best.ckpt output=microtubules.zip authors='[A. Scientist]'
  ddpm-lightning export checkpoint=CKPT output=model.zip samples=5 sample=noisy.tif name='Microtubules, low dose'
  bioimageio test microtubules.zip
  ddpm-lightning export checkpoint=CKPT output=microtubules.safetensors authors='[A. Scientist]'

NAME.safetensors is for this program. It contains the weights and the card, is a fifth as large as the checkpoint, and
can replace it in every command with the same results; only training cannot be continued from it. With half=true, the
weights are stored in half precision: a tenth as large, with results that differ by about a thousandth.

NAME.zip is for other programs (deepImageJ, ilastik, napari, Fiji). It contains the whole restoration as TorchScript,
from intensities to the mean and, for two or more samples, the standard deviation of a fixed number of samples, with a
test image, a cover, and documentation that states its limits. Classical filters, such as model=gaussian, are not
trained, so there is nothing to export. Needs the extra `export`: pip install 'ddpm-lightning[export]'.
"""

import shlex

from omegaconf import DictConfig

from ddpm_lightning.checkpoints.safetensors_file import SUFFIX
from ddpm_lightning.cli import compose
from ddpm_lightning.inference.export_model import ExportSettings, export_model

__all__ = ["run"]


def run(config: DictConfig) -> int:
    """Exports as the configuration says."""
    path = export_model(compose.settings(config, ExportSettings))
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
    if path.suffix != SUFFIX:
        print(f"check it with: {shlex.join(['bioimageio', 'test', str(path)])}")
        print(f"the package is for other programs; for this one, export with output=NAME{SUFFIX}")
    return 0
