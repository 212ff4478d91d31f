"""Trained models from checkpoints, without executing anything that a checkpoint brings along.

A checkpoint is read with ``weights_only=True``: it can hold tensors and plain containers, no code. What it says of its
model is built by :mod:`ddpm_lightning.build`, which looks up names of this package only.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ddpm_lightning.build import build
from ddpm_lightning.data.normalise import PairNormalisation, Percentile
from ddpm_lightning.errors import UserError, nearest
from ddpm_lightning.inference.packed import SUFFIX, read_packed, shipped_models
from ddpm_lightning.inference.presets import choose
from ddpm_lightning.models.protocol import Method
from ddpm_lightning.paths import expanded

__all__ = ["CARD_FORMAT", "Trained", "load"]

#: Format of the card; it rises when a reader of today could not understand the card of tomorrow.
CARD_FORMAT = 1
#: An image may be so many times as noisy as the noisiest training image before its range is widened, and as noisy as
#: this on the normalised scale in any case: models of clean images must not lose the contrast of all others.
NOISE_MARGIN, ALWAYS_ALLOWED = 1.25, 0.25


@dataclass
class Trained:
    """A trained method with all that its use needs.

    Attributes:
        method: The method, in evaluation mode, with its averaged weights.
        normalisation: Fitted maps of low and high images.
        card: What the checkpoint says of itself: names, model, data, normalisation, versions.
        path: File it was read from.
        sha256: Hash of that file.
        preset: Name of the way of drawing, for results; ``custom`` where a sampler was given.
        draws: Draws of each image, unless whoever restores says otherwise.
    """

    method: Method
    normalisation: PairNormalisation
    card: dict[str, Any]
    path: Path
    sha256: str
    preset: str = "custom"
    draws: int = 15

    @property
    def way(self) -> str:
        """How draws are made, in words: the sampler, and whether they see the image turned."""
        turned = self.method.turned and not self.method.deterministic
        return self.method.preset + (", turned" if turned else "")


def load(
    checkpoint: str | Path,
    device: str | torch.device = "cpu",
    sampler: dict[str, Any] | None = None,
    preset: str | None = None,
    draws: int | None = None,
    turned: bool | None = None,
) -> Trained:
    """Loads a trained method.

    Args:
        checkpoint: File written by ``ddpm-lightning train``, a packed model, or the name of a shipped one.
        device: Where the method shall compute.
        sampler: Settings that replace those of the sampler; with ``_target_`` another sampler altogether.
        preset: Name of a preset of the model, or ``stored``; by default the first, unless a sampler is given.
        draws: Draws of each image, if not as many as the preset says.
        turned: Whether each draw sees the image turned another way; by default so where the model learnt on turned
            images, unless the preset says otherwise.

    Raises:
        UserError: If the file is missing, damaged, or not a checkpoint of this program, or the preset is not offered.
    """
    path = _found(checkpoint)
    content = read_packed(path) if path.suffix == SUFFIX else _read(path)
    card = content.get("card") if isinstance(content, dict) else None
    if not isinstance(card, dict) or "model" not in card:
        raise UserError(
            path,
            "is not a checkpoint of ddpm-lightning",
            remedy="pass a file from RUN/checkpoints/, or train one",
        )
    if card.get("format") != CARD_FORMAT:
        raise UserError(
            path,
            f"has a card of format {card.get('format')}",
            allowed=f"format {CARD_FORMAT}",
            remedy="use the version of ddpm-lightning that wrote it: " + str(card.get("versions")),
        )
    try:
        drawing = choose(card["model"], preset, sampler, draws, path)
        method = build(drawing.model)
        _load_weights(method, content["state_dict"], path)
        normalisation = build(card["normalisation"]["config"])
        normalisation.load_state(card["normalisation"]["state"])
        if isinstance(normalisation.input, Percentile) and "inputs" in card:
            normalisation.input.most_noise = max(ALWAYS_ALLOWED, NOISE_MARGIN * max(card["inputs"]["noise"]))
        method.bounds = normalisation.target_bounds
        learnt = bool(card["data"].get("augment"))
        method.turned = learnt and drawing.turned if turned is None else turned
        # Whoever uses the model names it, and its data.
        card["names"]["model"], card["names"]["data"], card["data"]["_target_"]
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            path, f"is damaged, or of another program: {type(error).__name__}: {error}"
        ) from error
    method = method.to(device, memory_format=torch.channels_last).eval()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Trained(method, normalisation, card, path, sha256, drawing.preset, drawing.draws)


def _load_weights(method: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    try:
        method.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise UserError(path, f"has weights that do not fit its own model: {error}") from error
    if broken := [name for name, weight in method.named_parameters() if not weight.isfinite().all()]:
        raise UserError(
            path,
            f"has weights that are NaN or infinite ({len(broken)} tensors, {broken[0]} first): its training diverged",
            remedy="train again with a smaller model.optimizer.lr",
        )


def _found(checkpoint: str | Path) -> Path:
    """Returns the file that is meant: of that path, or of the shipped model of that name."""
    path, shipped = expanded(checkpoint), shipped_models()
    if path.is_file():
        return path
    if str(checkpoint) in shipped:
        return shipped[str(checkpoint)]
    best = path / "checkpoints" / "best.ckpt"
    if best.is_file():
        raise UserError(
            f"checkpoint={checkpoint}", "is the folder of a run", remedy=f"pass checkpoint={best}"
        )
    allowed = "a file such as runs/demo/checkpoints/best.ckpt"
    if shipped:
        allowed += f", or the name of a shipped model: {', '.join(shipped)}"
    near = nearest(str(checkpoint), shipped)
    remedy = f"did you mean checkpoint={near[0]}?" if near else ""
    raise UserError(f"checkpoint={checkpoint}", "no such file", allowed, remedy)


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways, each with an error of its own
        if isinstance(error, OSError) and error.filename:
            raise
        raise UserError(
            path,
            "cannot be read as a checkpoint: it is damaged, or holds more than tensors and plain containers",
            remedy="copy it again from its run; code in checkpoints is never executed",
        ) from error
