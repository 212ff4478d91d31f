"""Ways of drawing that have a name: a sampler and a number of samples, as good a bargain as was measured.

Each method offers those that make sense for it, the one that is taken by default first. What they cost and lose
against the paper's 200 x 15 evaluations is in ``experiments/speed/``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ONE_PASS", "Preset", "of_diffusion", "of_flow"]

_SAMPLERS = "ddpm_lightning.diffusion.samplers"


@dataclass(frozen=True)
class Preset:
    """A sampler and a number of samples.

    Attributes:
        samples: Samples of each image.
        use: What it is good for.
        sampler: Description of the sampler, or settings that replace those of the checkpoint's sampler.
        tta: Whether samples see the image turned, each another way, where the model learnt on turned images.
    """

    samples: int
    use: str
    sampler: Mapping[str, Any] = field(default_factory=dict)
    tta: bool = True


#: What a method offers that has nothing to choose.
ONE_PASS = {"one_pass": Preset(1, "the only way of this model")}


def of_diffusion(epsilon: bool, p_terminal: bool) -> dict[str, Preset]:
    """Returns the presets of a diffusion model.

    Args:
        epsilon: Whether it predicts noise: few steps then begin at 0.9 T, since its estimate at T is useless.
        p_terminal: Whether it was trained at pure noise, where one step then begins.
    """
    start = 0.9 if epsilon else 1.0

    def sampler(name: str, **settings: Any) -> dict[str, Any]:
        return {"_target_": f"{_SAMPLERS}.{name}", **settings}

    few = {"steps": 5, "start": start}
    solver = {"_target_": "ddpm_lightning.diffusion.dpm_solver.DPMSolver", "steps": 15, "start": start}
    return {
        "mean": Preset(15, "the least error: as good as paper, 40 times faster", sampler("Ancestral", **few)),
        "paper": Preset(15, "what the paper does: all steps of 15 samples", sampler("Ancestral"), tta=False),
        "uncertainty": Preset(15, "a spread as wide as that of paper", solver),
        "realistic": Preset(1, "one sample: texture instead of the least error", sampler("Ancestral", **few)),
        "fast": Preset(2, "two antithetic samples", sampler("DDIM", **few, antithetic=True)),
        "one_step": Preset(
            1, "one evaluation: a rough mean", sampler("OneStep", at=1.0 if p_terminal else 0.8)
        ),
    }


def of_flow(conditional: bool) -> dict[str, Preset]:
    """Returns the presets of a flow that starts at the estimate of a regressor.

    Args:
        conditional: Whether the flow sees the low image; only then its samples are samples of the posterior.
    """

    def euler(steps: int, antithetic: bool = True, realism: float = 1.0) -> dict[str, Any]:
        return {
            "_target_": "ddpm_lightning.diffusion.flow.Euler",
            "steps": steps,
            "antithetic": antithetic,
            "realism": realism,
        }

    presets = {
        "mean": Preset(2, "the least error: two antithetic samples of 3 steps", euler(3)),
        "realistic": Preset(1, "one sample: texture instead of the least error", euler(5)),
        "balanced": Preset(1, "half of the way from the mean to a sample", euler(3, realism=0.5)),
        "fast": Preset(1, "one sample of 3 steps", euler(3)),
        "one_step": Preset(1, "the regressor alone", euler(3, realism=0.0)),
    }
    if conditional:
        presets["uncertainty"] = Preset(15, "samples of the posterior", euler(10, antithetic=False))
    return presets
