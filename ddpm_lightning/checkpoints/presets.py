"""Which sampler and how many samples a trained model is used with.

A preset is a name for both (:mod:`ddpm_lightning.models.presets`). Explicit settings take precedence; without any, the
first preset of the model is used. Its name is recorded with every result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ddpm_lightning.models.build import build_method
from ddpm_lightning.models.sampling import Evaluations, evaluations_of
from ddpm_lightning.utils.allowed_classes import Trust
from ddpm_lightning.utils.errors import UserError, nearest

__all__ = ["Sampling", "choose", "costs"]

#: Name of the sampler of the checkpoint, offered besides the presets of its model.
STORED = "stored"
#: Default number of samples of a custom sampler (that of the paper).
SAMPLES = 15


@dataclass(frozen=True)
class Sampling:
    """How samples are made.

    Attributes:
        preset: Name for results: that of a preset, with the number of samples if it differs, or ``custom``.
        samples: Number of samples.
        model: Description of the model with its sampler.
        tta: Whether test-time augmentation is used, if the model was trained on augmented images.
        mean: What the restored image is: ``average`` of the samples or output of the posterior-mean ``network``.
    """

    preset: str
    samples: int
    model: dict[str, Any]
    tta: bool = True
    mean: str = "average"


def choose(
    model: dict[str, Any],
    preset: str | None = None,
    sampler: Mapping[str, Any] | None = None,
    samples: int | None = None,
    subject: object = "checkpoint",
    trust: Trust = (),
) -> Sampling:
    """Chooses how samples of a model are made.

    Args:
        model: Description of the model.
        preset: Name of a preset of the model, or ``stored``; ``None`` takes the first, unless a sampler is given.
        sampler: Settings that replace those of the sampler; with ``_target_``, another sampler.
        samples: Number of samples, if it is not that of the preset.
        subject: Subject of errors.
        trust: Packages whose classes the model may name.

    Raises:
        UserError: If the model does not offer the preset, or has no sampler.
    """
    given = {key: value for key, value in (sampler or {}).items() if value is not None}
    if given and "sampler" not in model:
        settings = ", ".join(f"sampler.{key}={value}" for key, value in given.items() if key != "_target_")
        raise UserError(
            subject,
            f"is a model without a sampler: it restores in one pass, so there is no {settings or 'sampler'}",
            remedy="leave out sampler=… and sampler.KEY=…",
        )
    if given and preset is None:
        return Sampling("custom", samples or SAMPLES, _with_sampler(model, given))
    with torch.device("meta"):  # without memory for weights
        offered = build_method(model, trust).presets
    name = preset or next(iter(offered))
    mean = "average"
    if name == STORED and "sampler" in model:
        count, tta = samples or SAMPLES, True
    elif name in offered:
        count, tta, mean = samples or offered[name].samples, offered[name].tta, offered[name].mean
        model = _with_sampler(model, offered[name].sampler)
        name += f" (samples={count})" if count != offered[name].samples else ""
    else:
        raise _not_offered(name, model, offered)
    if given:
        return Sampling("custom", count, _with_sampler(model, given), tta, mean)
    return Sampling(name, count, model, tta, mean)


def costs(model: dict[str, Any], augmented: bool, trust: Trust = ()) -> dict[str, tuple[Evaluations, str]]:
    """Returns for each preset of a model its network evaluations for an image, and what it is good for.

    Args:
        model: Description of the model.
        augmented: Whether it was trained on augmented images.
        trust: Packages whose classes the model may name.
    """
    found = {}
    with torch.device("meta"):
        for name, preset in build_method(model, trust).presets.items():
            method = build_method(_with_sampler(model, preset.sampler), trust)
            # Samples are made only on request if mean and standard deviation are those of networks.
            samples = 0 if preset.mean == "network" and method.predicts_std else preset.samples
            found[name] = evaluations_of(method, samples, augmented and preset.tta), preset.use
    return found


def _with_sampler(model: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the description of a model with another sampler, or other settings of its own."""
    if not settings:
        return model
    other = "_target_" in settings
    return {**model, "sampler": dict(settings) if other else {**model["sampler"], **settings}}


def _not_offered(name: str, model: dict[str, Any], offered: Mapping[str, Any]) -> UserError:
    names = [*offered, *([STORED] if "sampler" in model else [])]
    near = nearest(name, names)
    meanings = "; ".join(f"{key} ({value.use})" for key, value in offered.items())
    remedy = f"did you mean preset={near[0]}?" if near else "leave out preset=… for the first of these"
    if name == "uncertainty":
        remedy = f"{remedy}; for an uncertainty map, train a model of the posterior, such as residual_flow"
    return UserError(
        f"preset={name}",
        "is not offered by this model",
        allowed=meanings + (f"; {STORED} (the sampler of the checkpoint)" if "sampler" in model else ""),
        remedy=remedy,
    )
