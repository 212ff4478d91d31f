"""Presets: names for a sampler and a number of samples that were found to be good compromises.

Each method offers those that suit it, the default first. Their cost and quality, compared with the 200 x 15 network
evaluations of the paper, are in ``experiments/speed/``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ONE_PASS", "SCORED", "Preset", "of_diffusion", "of_flow"]

_SAMPLERS = "ddpm_lightning.diffusion.samplers"
_TEXTURE = "one sample: texture like that of clean images, larger error"


@dataclass(frozen=True)
class Preset:
    """A sampler and a number of samples.

    Attributes:
        samples: Samples of each image.
        use: What it is good for, in a few words.
        sampler: Description of the sampler, or settings that replace those of the checkpoint's sampler.
        tta: Whether test-time augmentation is used, if the model was trained on augmented images.
        mean: What the restored image is: the ``average`` of the samples, or the output of the posterior-mean
            ``network``, which has no sampling error and does not improve with more samples.
    """

    samples: int
    use: str
    sampler: Mapping[str, Any] = field(default_factory=dict)
    tta: bool = True
    mean: str = "average"


#: The presets of a deterministic method.
ONE_PASS = {"one_pass": Preset(1, "the only preset of this model", tta=False)}
#: Presets of a model that predicts mean and standard deviation, and makes a sample in one network evaluation. It has no
#: sampler. Samples are made where something besides mean and standard deviation is computed from them.
SCORED = {
    "mean": Preset(8, "mean and standard deviation by networks; 8 samples on request", mean="network"),
    "uncertainty": Preset(15, "the same; 15 samples on request", mean="network"),
    "realistic": Preset(1, _TEXTURE, tta=False),
}


def of_diffusion(epsilon: bool, p_terminal: bool) -> dict[str, Preset]:
    """Returns the presets of a diffusion model.

    Args:
        epsilon: Whether it predicts noise. Presets of few steps then start at 0.9 T, because its estimate at T is
            useless.
        p_terminal: Whether it was trained at pure noise. The preset ``one_step`` then starts there.
    """
    start = 0.9 if epsilon else 1.0

    def sampler(name: str, **settings: Any) -> dict[str, Any]:
        return {"_target_": f"{_SAMPLERS}.{name}", **settings}

    few = {"steps": 5, "start": start}
    solver = {"_target_": "ddpm_lightning.diffusion.dpm_solver.DPMSolver", "steps": 15, "start": start}
    return {
        "mean": Preset(15, "smallest error: as good as paper, 40 times faster", sampler("Ancestral", **few)),
        "paper": Preset(15, "as in the paper: 15 samples of all steps", sampler("Ancestral"), tta=False),
        "uncertainty": Preset(15, "a standard deviation as large as with paper", solver),
        "realistic": Preset(1, _TEXTURE, sampler("Ancestral", **few)),
        "fast": Preset(2, "two antithetic samples", sampler("DDIM", **few, antithetic=True)),
        "one_step": Preset(
            1, "one network evaluation: a rough mean", sampler("OneStep", at=1.0 if p_terminal else 0.8)
        ),
    }


def of_flow(conditional: bool) -> dict[str, Preset]:
    """Returns the presets of a flow that starts at the estimate of a regressor.

    Args:
        conditional: Whether the low image is an input of the flow; only then are its samples posterior samples.
    """

    def euler(steps: int, antithetic: bool = True, realism: float = 1.0) -> dict[str, Any]:
        return {
            "_target_": "ddpm_lightning.diffusion.flow.Euler",
            "steps": steps,
            "antithetic": antithetic,
            "realism": realism,
        }

    presets = {
        "mean": Preset(2, "smallest error: two antithetic samples of 3 steps", euler(3)),
        "realistic": Preset(1, _TEXTURE, euler(5), tta=False),
        "balanced": Preset(1, "between mean and realistic", euler(3, realism=0.5), tta=False),
        "fast": Preset(1, "one sample of 3 steps", euler(3), tta=False),
        "one_step": Preset(1, "the regressor alone", euler(3, realism=0.0), tta=False),
    }
    if conditional:
        # As many evaluations as ten Euler steps, which leave only 0.86 of the exact standard deviation.
        midpoint = {**euler(5, antithetic=False), "_target_": "ddpm_lightning.diffusion.flow.Midpoint"}
        presets["uncertainty"] = Preset(15, "posterior samples, for the standard deviation", midpoint)
    return presets
