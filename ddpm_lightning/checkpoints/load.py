"""Loads trained models from checkpoints, without executing code from them.

A checkpoint is read with ``weights_only=True``: it can contain tensors and plain containers, but no code. The
description of its model (its card) is checked completely, then built by :mod:`ddpm_lightning.utils.instantiate`, from
registered classes only.
"""

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ddpm_lightning.checkpoints.calibration import Calibration, calibrations_of
from ddpm_lightning.checkpoints.card import CARD_FORMAT, checked_card
from ddpm_lightning.checkpoints.presets import choose, costs
from ddpm_lightning.checkpoints.safetensors_file import SUFFIX, read_safetensors, shipped_models
from ddpm_lightning.checkpoints.weights import check_fit, checked_weights, limited_to, read_weights
from ddpm_lightning.data.normalise import PairNormalisation
from ddpm_lightning.io.stack_axis import NeighboursAxis
from ddpm_lightning.models.build import build_method, check_method
from ddpm_lightning.models.method import Method
from ddpm_lightning.models.sampling import Evaluations, Tta, evaluations_of
from ddpm_lightning.readouts.calibration import ReadoutCalibration, readout_calibrations_of
from ddpm_lightning.utils.allowed_classes import Trust, trusted_packages
from ddpm_lightning.utils.errors import UserError, is_out_of_memory, nearest
from ddpm_lightning.utils.instantiate import build, check
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.settings import Count, PathText, Settings, Text

__all__ = ["CARD_FORMAT", "ModelSettings", "Trained", "load"]

#: The range of an image is widened if it is more than this many times as noisy as the noisiest training image, but only
#: if its noise exceeds this standard deviation on the normalised scale: otherwise a model of nearly clean images would
#: reduce the contrast of all others.
NOISE_MARGIN, ALWAYS_ALLOWED = 1.25, 0.25


class ModelSettings(Settings):
    """Which trained model is used, and how it makes samples.

    Attributes:
        checkpoint: A checkpoint, a safetensors file, or the name of a shipped model.
        preset: Name of a preset of the model, or ``stored``; by default the first, unless a sampler is given.
        sampler: Settings that replace those of the sampler; with ``_target_``, another sampler.
        samples: Samples of each image, if not as many as the preset says.
        tta: Test-time augmentation: whether each sample is computed from another orientation of the image, or over how
            many orientations, from 2 to 8, deterministic networks are averaged (``True``: 2). By default it is used if
            the model was trained with augmentation, unless the preset says otherwise; deterministic models use it only
            on request.
        trust: Top-level packages whose classes the file may use, in addition to those registered by this program.
    """

    checkpoint: PathText
    preset: Text | None = None
    sampler: dict[str, Any] | None = None
    samples: Count | None = None
    tta: Tta | None = None
    trust: list[Text] = []  # noqa: RUF012  (pydantic copies it)

    def load(self, device: str | torch.device = "cpu") -> "Trained":
        """Returns the trained model, on a device; see :func:`load`."""
        return load(
            self.checkpoint,
            device,
            self.sampler,
            self.preset,
            self.samples,
            self.tta,
            trusted_packages(self.trust),
        )


@dataclass
class Trained:
    """A trained method with everything that is needed to use it.

    Attributes:
        method: The method, in evaluation mode, with its averaged weights.
        normalisation: Fitted maps of low and high images.
        card: What the checkpoint says of itself: names, model, data, normalisation, versions.
        path: File it was read from.
        sha256: Hash of that file.
        preset: Name of the preset, for results; ``custom`` if a sampler was given.
        samples: Samples of each image, unless another number is given when it is restored.
        tta: Test-time augmentation: whether each sample is computed from another orientation of the image, or over how
            many orientations deterministic networks are averaged.
        mean: What the restored image is: ``average`` of the samples or output of the posterior-mean ``network``.
        trust: Packages whose classes the file may name.
        step: Optimiser steps that the weights were trained for, in a flow those of the flow; ``None`` if unknown.
    """

    method: Method
    normalisation: PairNormalisation
    card: dict[str, Any]
    path: Path
    sha256: str
    preset: str = "custom"
    samples: int = 15
    tta: Tta = False
    mean: str = "average"
    trust: Trust = ()
    step: int | None = None

    @property
    def most_noise(self) -> float | None:
        """Maximum noise of an image that has its own scale, as a standard deviation on the normalised scale.

        ``None`` if the checkpoint does not record the noise of its training images.
        """
        seen = self.card.get("inputs")
        return max(ALWAYS_ALLOWED, NOISE_MARGIN * max(seen["noise"])) if seen else None

    @property
    def neighbours_axis(self) -> NeighboursAxis:
        """Axis along which planes of the training were neighbours; ``auto`` if there were none or it is unknown."""
        return self.card.get("neighbours", {}).get("axis") or "auto"

    @property
    def sampling(self) -> str:
        """How images are restored, in words: the sampler, test-time augmentation, and what the restored image is."""
        network = self.mean == "network"
        return (
            self.method.preset
            + (", test-time augmentation" if self.tta else "")
            + (f" in {self.tta} orientations" if self.tta and self.tta is not True else "")
            + (", restored by the posterior-mean network" if network else "")
        )

    @property
    def sampler(self) -> str:
        """The sampler with all of its settings, of which ``sampling`` leaves out some; empty if there is none."""
        sampler = getattr(self.method, "sampler", None)
        if sampler is None:
            return ""
        settings = (f"{name}={value!r}" for name, value in sorted(vars(sampler).items()))
        return f"{type(sampler).__name__}({', '.join(settings)})"

    @property
    def std_by_network(self) -> bool:
        """Whether networks estimate mean and standard deviation: samples are then made only on request."""
        return self.mean == "network" and self.method.predicts_std

    def sample_count(self, samples: int | None, requested: bool = True) -> int:
        """Returns how many samples are made of an image.

        Args:
            samples: Number that was asked for; ``None`` or 0 for that of the preset.
            requested: Whether anything but mean and standard deviation is computed from them.
        """
        if self.method.deterministic:
            return 1
        return 0 if self.std_by_network and not requested else samples or self.samples

    def has_std(self, samples: int) -> bool:
        """Says whether there is a standard deviation with this many samples."""
        return self.std_by_network or samples > 1

    def calibration(self, samples: int) -> Calibration | None:
        """Returns the calibration for this many samples, made as by this model; ``None`` if there is none.

        Args:
            samples: Number of samples; of no importance if the standard deviation is that of a network.
        """
        key = self.sampling, self.sampler, 0 if self.std_by_network else samples
        return next((one for one in calibrations_of(self.card) if one.key == key), None)

    def readout_calibration(self, readout: str, samples: int) -> ReadoutCalibration | None:
        """Returns the calibration of a readout for samples that are made as by this model; ``None`` if there is none.

        Args:
            readout: The readout with its settings (:attr:`ddpm_lightning.readouts.readout.Readout.key`).
            samples: Number of samples.
        """
        key = readout, self.sampling, self.sampler, samples
        return next((one for one in readout_calibrations_of(self.card) if one.key == key), None)

    @property
    def augmented(self) -> bool:
        """Whether the model was trained on augmented images, as test-time augmentation requires."""
        return bool(self.card["data"].get("augment"))

    def presets(self) -> dict[str, tuple[Evaluations, str]]:
        """Returns for each preset its network evaluations for an image, and what it is good for."""
        return costs(self.card["model"], self.augmented, self.trust)

    def evaluations(self, samples: int) -> Evaluations:
        """Returns the network evaluations for an image that is restored from this many samples."""
        return evaluations_of(self.method, samples, self.tta)


def load(
    checkpoint: str | Path,
    device: str | torch.device = "cpu",
    sampler: dict[str, Any] | None = None,
    preset: str | None = None,
    samples: int | None = None,
    tta: Tta | None = None,
    trust: Trust = (),
) -> Trained:
    """Loads a trained method.

    Args:
        checkpoint: Checkpoint of a training, safetensors file, or name of a shipped model.
        device: Device of the method.
        sampler: Settings that replace those of the sampler; with ``_target_``, another sampler.
        preset: Name of a preset of the model, or ``stored``; by default the first, unless a sampler is given.
        samples: Samples of each image, if not as many as the preset says.
        tta: Test-time augmentation: whether each sample is computed from another orientation of the image, or over how
            many orientations, from 2 to 8, deterministic networks are averaged (``True``: 2). By default it is used if
            the model was trained with augmentation, unless the preset says otherwise; deterministic models use it only
            on request.
        trust: Top-level packages whose classes the file may use, in addition to those registered by this program.

    Returns:
        The method in evaluation mode, with its normalisation and its card.

    Raises:
        UserError: If the file is missing, damaged, or not a checkpoint of this program; if it refers to a class that
            is not allowed; if the preset is not available; or if memory is insufficient.
    """
    path = _found(checkpoint)
    try:
        content = read_safetensors(path) if path.suffix == SUFFIX else read_weights(path)
        card = checked_card(content, path)
        weights = checked_weights(content.get("state_dict"), path)
        normalisation = _examined(card, weights, path, trust)
        chosen = choose(card["model"], preset, sampler, samples, path, trust)
        method = build_method(chosen.model, trust, normalisation.target_bounds)
        _load_weights(method, weights, path)
        layout: dict[str, Any] = {"memory_format": torch.channels_last}  # missing from torch's annotations
        method = method.to(device, **layout).eval()
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except Exception as error:
        if not is_out_of_memory(error) or isinstance(error, UserError):
            raise
        raise UserError(
            "memory",
            f"does not suffice to load {path} ({path.stat().st_size / 1e6:.0f} MB)",
            remedy="close other programs, or use device=cpu",
        ) from error
    step = content.get("global_step", card.get("training", {}).get("step"))
    return Trained(
        method,
        normalisation,
        card,
        path,
        sha256,
        preset=chosen.preset,
        samples=chosen.samples,
        tta=bool(card["data"].get("augment")) and chosen.tta if tta is None else tta,
        mean=chosen.mean,
        trust=trust,
        step=step if isinstance(step, int) else None,
    )


def _examined(
    card: dict[str, Any], weights: dict[str, torch.Tensor], path: Path, trust: Trust
) -> PairNormalisation:
    """Returns the normalisation of a card after checking that its model can be built and fits the weights.

    Raises:
        UserError: If it cannot, or does not fit; the error names the file.
    """
    scaling = card["normalisation"]
    try:
        # All names are checked before anything is built, and the model is first built without allocating memory.
        check_method(card["model"], trust)
        check(scaling["config"], ("normalisation",), trust)
        with limited_to(weights, path), torch.device("meta"):
            model = build_method(card["model"], trust)
        check_fit(model, weights, path)
        normalisation = build(scaling["config"], ("normalisation",), trust)
        normalisation.load_state(scaling["state"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            path, f"is damaged, or was not written by this program: {type(error).__name__}: {error}"
        ) from error
    except UserError as error:
        subject = error.subject if error.subject == path else f"{path}: {error.subject}"
        raise UserError(subject, error.found, error.allowed, error.remedy) from error
    return normalisation


def _load_weights(method: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    method.load_state_dict(weights, strict=True)
    if broken := [name for name, weight in method.named_parameters() if not weight.isfinite().all()]:
        raise UserError(
            path,
            f"has weights that are NaN or infinite ({len(broken)} tensors, {broken[0]} first): its training diverged",
            remedy="train again with a smaller model.optimizer.lr",
        )


def _found(checkpoint: str | Path) -> Path:
    """Returns the file of that path, or that of the shipped model of that name."""
    path, shipped = expanded(checkpoint), shipped_models()
    if path.is_file():
        return path
    if str(checkpoint) in shipped:
        return shipped[str(checkpoint)]
    best = path / "checkpoints" / "best.ckpt"
    if best.is_file():
        raise UserError(
            f"checkpoint={checkpoint}",
            "is the folder of a run",
            remedy=f"pass {shlex.quote(f'checkpoint={best}')}",
        )
    allowed = "a file such as runs/demo/checkpoints/best.ckpt"
    if shipped:
        allowed += f", or the name of a shipped model: {', '.join(shipped)}"
    near = nearest(str(checkpoint), shipped)
    remedy = f"did you mean checkpoint={near[0]}?" if near else ""
    raise UserError(f"checkpoint={checkpoint}", "no such file", allowed, remedy)
