"""Restoration of microscopy images with conditional diffusion models (arXiv 2409.12078)."""

from ddpm_lightning.utils import torchvision_remedy

__version__ = "0.2.0.dev0"

torchvision_remedy.install()
