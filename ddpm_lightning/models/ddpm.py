r"""The paper's method: a conditional denoising diffusion model.

The input of the network is the diffused clean image y_t, the low image x, and the noise level. Samples from the model
approximate samples from p(y | x); their mean is DDPM-avg (arXiv 2409.12078, section 3).
"""

import torch
from torch import Tensor, nn

from ddpm_lightning.diffusion.objective import Objective
from ddpm_lightning.diffusion.process import q_sample
from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.samplers import Sampler
from ddpm_lightning.diffusion.schedule import Schedule, log_snr
from ddpm_lightning.models.method import (
    Apply,
    Batch,
    LossKey,
    Method,
    apply_directly,
    size_divisor_of,
)
from ddpm_lightning.models.presets import Preset, of_diffusion
from ddpm_lightning.networks.neighbours import NeighbourStem
from ddpm_lightning.utils.settings import BelowOne, Count

__all__ = ["DDPM"]

#: Noise level as the network sees it.
LABELS = {
    "alpha_bar": lambda alpha_bar: alpha_bar,
    "log_snr": lambda alpha_bar: log_snr(alpha_bar) / 4,
}
#: Steps of the keyed noise that training uses: one for the level, one for the image.
LEVEL, IMAGE = 0, 1


class DDPM(Method):
    """Conditional diffusion model: a network, a schedule, an objective and a sampler.

    Args:
        network: Maps (B, 2, H, W) = state beside low image, and labels (B,), to (B, 1, H, W).
        schedule: The forward process.
        objective: What the network predicts.
        sampler: How samples are made; it may be replaced after training.
        label: Noise level as the network sees it: ``alpha_bar`` (the paper), or ``log_snr``, a quarter of the log-SNR,
            which resolves low noise levels better.
        continuous: Whether training levels lie between the entries of the schedule's table.
        validation_levels: Number of fixed levels at which the validation loss is computed.
        first_step: Least step of the schedule that training levels belong to; with 2, no level is above that of step 1.
        p_terminal: Share of training crops at pure noise, t = T, in [0, 1). Without them, the network is hardly trained
            there. With a quarter, its estimate there is nearly the mean of all samples (sampler ``one_step`` with
            ``at`` 1).
        stem: Combines planes of stacks and their neighbours, if these are used.

    Raises:
        ValueError: If a setting is out of its range, or the sampler does not suit the schedule and the objective.
    """

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
        first_step: Count = 1,
        stem: NeighbourStem | None = None,
    ) -> None:
        super().__init__()
        if first_step > schedule.steps:
            raise ValueError(
                f"model.first_step is {first_step}; the schedule has steps 1 to {schedule.steps}"
            )
        if not 0 <= p_terminal < 1:
            raise ValueError(f"model.p_terminal is {p_terminal}; allowed: 0 to below 1")
        if p_terminal and objective.name == "epsilon":
            raise ValueError(
                "model.p_terminal trains at pure noise, where an epsilon model has nothing to learn: the noise is what "
                "it sees; use model.objective.name=v"
            )
        if label not in LABELS:
            raise ValueError(f"model.label is {label!r}; allowed: {', '.join(LABELS)}")
        self.network, self.stem = network, stem
        self.schedule, self.objective, self.sampler = schedule, objective, sampler
        self.label, self.continuous, self.validation_levels = label, continuous, validation_levels
        self.p_terminal, self.first_step, self.size_divisor = p_terminal, first_step, size_divisor_of(network)
        sampler.check(schedule, objective)  # an unsuitable sampler is rejected now, not at the first sample

    @property
    def deterministic(self) -> bool:
        """Samples differ by their noise."""
        return False

    @property
    def antithetic(self) -> bool:
        """Whether the sampler pairs its samples."""
        return self.sampler.antithetic

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample."""
        return self.sampler.evaluations(self.schedule)

    @property
    def presets(self) -> dict[str, Preset]:
        """Named choices of sampler and number of samples, the default first."""
        return of_diffusion(self.objective.name == "epsilon", self.p_terminal > 0)

    @property
    def preset(self) -> str:
        """The sampler and its number of steps, in words."""
        return self.sampler.describe(self.schedule)

    def predict(self, y_t: Tensor, alpha_bar: Tensor, low: Tensor, apply: Apply = apply_directly) -> Tensor:
        """Returns the network's output for states and levels, float32, with the shape of y_t."""
        label = LABELS[self.label](alpha_bar).to(y_t)
        return apply(self.network, torch.cat([y_t, low], dim=1), label).float()

    def losses(self, batch: Batch, alpha_bar: Tensor, noise: Tensor) -> Tensor:
        """Returns the loss of each image of a batch at given noise levels.

        Args:
            batch: B crops.
            alpha_bar: Noise levels in [0, 1], with shape (B,).
            noise: Standard normal noise with shape (B, 1, H, W).

        Returns:
            Weighted mean squared errors of at least 0, with shape (B,).
        """
        y_0, low = batch["high"], self.combined(batch["low"])
        prediction = self.predict(q_sample(y_0, alpha_bar, noise), alpha_bar, low)
        return self.objective.loss(prediction, y_0, alpha_bar, noise)

    def loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the loss at random noise levels; see :meth:`Method.loss`.

        Returns:
            Mean over the batch of :meth:`losses`, a scalar of at least 0.
        """
        y_0, keyed = batch["high"], key.noise(batch["name"])
        uniform = keyed.uniform(LEVEL, 3, y_0.device)
        levels = self.schedule.levels(uniform[:, :2], self.continuous, self.first_step)
        terminal = self.schedule.alpha_bar[-1].to(levels)
        alpha_bar = torch.where(uniform[:, 2] < self.p_terminal, terminal, levels)
        return self.losses(batch, alpha_bar, keyed(IMAGE, y_0.shape[1:], y_0.device)).mean()

    def validation_loss(self, batch: Batch, key: LossKey) -> Tensor:
        """Returns the loss on a fixed grid of noise levels, each crop at one level, chosen by its key.

        Returns:
            Mean over the batch of :meth:`losses`, a scalar of at least 0.
        """
        y_0, keyed = batch["high"], key.noise(batch["name"])
        bin_ = (keyed.uniform(LEVEL, 1, y_0.device) * self.validation_levels).long()
        centre = ((bin_ + 0.5) / self.validation_levels).double().expand(-1, 2)
        alpha_bar = self.schedule.levels(centre, continuous=False)
        return self.losses(batch, alpha_bar, keyed(IMAGE, y_0.shape[1:], y_0.device)).mean()

    def sample(self, low: Tensor, noise: KeyedNoise, apply: Apply = apply_directly) -> Tensor:
        """Samples clean images; see :meth:`Method.sample`."""

        def predict_start(y_t: Tensor, alpha_bar: Tensor) -> Tensor:
            return self.objective.start(self.predict(y_t, alpha_bar, low, apply), y_t, alpha_bar)

        shape = (1, *low.shape[-2:])
        return self.sampler(predict_start, self.schedule, noise, shape, low.device, self.bounds, guess=low)
