r"""The paper's method: a conditional denoising diffusion model.

The network sees the diffused clean image y_t beside the low image x, and is told the noise level. Samples from the
model are samples from its idea of p(y | x); their mean is DDPM-avg (arXiv 2409.12078, section 3).
"""

from typing import Any

import torch
from torch import Tensor, nn

from ddpm_lightning.diffusion.objective import Objective
from ddpm_lightning.diffusion.process import q_sample
from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.samplers import Sampler
from ddpm_lightning.diffusion.schedule import Schedule, log_snr
from ddpm_lightning.models.learner import Learner
from ddpm_lightning.models.presets import Preset, of_diffusion
from ddpm_lightning.models.protocol import Apply, whole
from ddpm_lightning.utils.settings import BelowOne, Count

__all__ = ["DDPM"]

#: What the network is told of the noise level.
LABELS = {
    "alpha_bar": lambda alpha_bar: alpha_bar,
    "log_snr": lambda alpha_bar: log_snr(alpha_bar) / 4,
}
#: Steps of the keyed noise that training uses: one for the level, one for the image.
LEVEL, IMAGE = 0, 1


class DDPM(Learner):
    """Conditional diffusion model; wires network, schedule, objective and sampler together.

    Args:
        network: Maps (B, 2, H, W) = state beside low image, and labels (B,), to (B, 1, H, W).
        schedule: The forward process.
        objective: What the network predicts.
        sampler: How samples are made; it may be replaced after training.
        label: ``alpha_bar`` (the paper) or ``log_snr`` (a quarter of it, which tells low noise levels apart).
        continuous: Whether training levels lie between the entries of the schedule's table.
        validation_levels: Number of fixed levels at which the validation loss is computed.
        p_terminal: Share of training samples at pure noise, t = T, where a network without them is hardly trained:
            with a quarter, its estimate there is nearly the mean of all samples (sampler ``one_step`` with ``at`` 1).
        settings: Settings of :class:`Learner`.

    Raises:
        ValueError: If a setting cannot be, or the sampler is of no use with the schedule and the objective.
    """

    deterministic = False

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        objective: Objective,
        sampler: Sampler,
        label: str = "alpha_bar",
        continuous: bool = True,
        validation_levels: Count = 8,
        p_terminal: BelowOne = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if not 0 <= p_terminal < 1:
            raise ValueError(f"model.p_terminal is {p_terminal}; allowed: 0 to below 1")
        if p_terminal and objective.name == "epsilon":
            raise ValueError(
                "model.p_terminal trains at pure noise, where an epsilon model has nothing to learn: the noise is what "
                "it sees; use model.objective.name=v"
            )
        if not isinstance(sampler, Sampler):
            raise ValueError(f"a diffusion model has no use for the sampler {type(sampler).__name__}")
        if label not in LABELS:
            raise ValueError(f"model.label is {label!r}; allowed: {', '.join(LABELS)}")
        self.network, self.schedule, self.objective, self.sampler = network, schedule, objective, sampler
        self.label, self.continuous, self.validation_levels = label, continuous, validation_levels
        self.p_terminal, self.size_divisor = p_terminal, network.size_divisor
        sampler.check(schedule, objective)  # a grid that cannot be is refused now, not at the first drawing

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample."""
        return self.sampler.evaluations(self.schedule)

    @property
    def presets(self) -> dict[str, Preset]:
        """Named ways of drawing, the default first."""
        return of_diffusion(self.objective.name == "epsilon", self.p_terminal > 0)

    @property
    def preset(self) -> str:
        """The sampler and its number of steps, in words."""
        return f"{self.sampler.name} with {self.evaluations} of {self.schedule.steps} steps"

    def predict(self, y_t: Tensor, alpha_bar: Tensor, low: Tensor, apply: Apply = whole) -> Tensor:
        """Returns the network's output for states and levels, float32, with the shape of y_t."""
        label = LABELS[self.label](alpha_bar).to(y_t)
        return apply(self.network, torch.cat([y_t, low], dim=1), label).float()

    def losses(self, batch: dict, alpha_bar: Tensor, noise: Tensor) -> Tensor:
        """Returns the loss of each image of a batch at given levels and noise, with shape (B,)."""
        y_0 = batch["high"]
        prediction = self.predict(q_sample(y_0, alpha_bar, noise), alpha_bar, batch["low"])
        return self.objective.loss(prediction, y_0, alpha_bar, noise)

    def training_levels(self, keyed: KeyedNoise) -> Tensor:
        """Returns the noise level of each training sample, with shape (B,), float64."""
        uniform = keyed.uniform(LEVEL, 3, self.device)
        levels = self.schedule.levels(uniform[:, :2], self.continuous)
        return torch.where(uniform[:, 2] < self.p_terminal, self.schedule.alpha_bar[-1].to(levels), levels)

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        """Returns the mean loss at random levels, keyed by (seed, crop, step)."""
        names, shape = batch["name"], batch["high"].shape[1:]
        keyed = KeyedNoise(self.seed, names, [self.trainer.global_step] * len(names))
        alpha_bar = self.training_levels(keyed)
        loss = self.losses(batch, alpha_bar, keyed(IMAGE, shape, self.device)).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(names))
        return loss

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        """Logs the loss on a fixed grid of levels with fixed noise: comparable between epochs and runs."""
        names, shape = batch["name"], batch["high"].shape[1:]
        keyed = KeyedNoise(0, names, [0] * len(names))
        # Each crop sits at one level of the grid, chosen by its key.
        cell = (keyed.uniform(LEVEL, 1, self.device) * self.validation_levels).long()
        alpha_bar = self.schedule.levels(
            ((cell + 0.5) / self.validation_levels).double().expand(-1, 2), False
        )
        losses = self.losses(batch, alpha_bar, keyed(IMAGE, shape, self.device))
        self.log("val/loss", losses.mean(), prog_bar=True, batch_size=len(names), sync_dist=True)

    def sample(self, low: Tensor, noise: KeyedNoise, apply: Apply = whole) -> Tensor:
        """Samples clean images; see :meth:`ddpm_lightning.models.protocol.Method.sample`."""

        def predict_start(y_t: Tensor, alpha_bar: Tensor) -> Tensor:
            return self.objective.start(self.predict(y_t, alpha_bar, low, apply), y_t, alpha_bar)

        shape = (1, *low.shape[-2:])
        return self.sampler(predict_start, self.schedule, noise, shape, low.device, self.bounds, guess=low)
