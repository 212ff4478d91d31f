"""Settings of how a trained model is applied to planes."""

from typing import Literal

from ddpm_lightning.inference.stack_inputs import Noise, Scaling
from ddpm_lightning.io.stack_axis import NeighboursAxis
from ddpm_lightning.utils.settings import Count, Fraction, FromZero, Seed, Settings, Side, Switch

__all__ = ["RestorerSettings"]


class RestorerSettings(Settings):
    """How a trained model is applied to planes.

    Attributes:
        tile: Longest side in pixels of the tiles that networks see, halved if memory is short; ``auto`` is 512 on a CPU
            and 1024 on a GPU, ``None`` is for whole planes. Up to that limit, each plane has the tiles with which
            networks process the fewest pixels.
        overlap: Pixels that neighbouring tiles share.
        margin: Reflected pixels around a plane; without them, samples disagree too much at its border.
        seed: Seed of the samples.
        tolerance: Sampling ends early once the standard error of the mean is below this share of the image's range
            (:mod:`ddpm_lightning.inference.precision`).
        hot_pixels: ``replace`` replaces hot and dead pixels, cosmic rays, dead rows and columns by the median of the
            intact pixels around them (:mod:`ddpm_lightning.data.defects`), before the range of the image is measured
            and a network sees it; ``keep`` leaves them unchanged.
        scale: Scale of intensities of the planes of a stack, for models that scale each image: ``stack`` is one for all
            planes of a channel (:mod:`ddpm_lightning.inference.stack_scale`), ``bleaching`` follows slow changes of
            brightness along time, ``plane`` scales each plane by itself.
        noise: Noise of the samples of the planes of a stack: ``correlated`` changes as fast as the content of the
            planes (:mod:`ddpm_lightning.inference.key_planes`), ``shared`` is the same in all planes of a channel,
            ``independent`` is different in each plane.
        average_neighbours: Planes of a stack before and after each plane that it is averaged with, where they agree
            within their uncertainty (:mod:`ddpm_lightning.inference.neighbour_average`); 0 for none.
        neighbours_axis: For models that make use of neighbouring planes, the axis along which they are neighbours:
            ``z``, ``t``, or ``auto`` for the axis of the training. Of a file without that axis, planes are restored by
            themselves; if the axis of the training or that of the file is unknown, it is the first one of the file.
        bfloat16: Whether networks compute in bfloat16: about twice as fast if the processor supports it, far slower if
            not; ``auto`` finds out. Samples differ from those in float32 by a few hundredths of their standard
            deviation.
        compiled: Whether networks are compiled, on a GPU with CUDA graphs. This takes minutes, so it only pays off for
            large jobs.
        batch: Samples that are computed together; by default as many as make a million pixels. On a GPU the batch
            changes the last digits of samples by rounding; on a CPU it does not.
        workers: Tiles that a CPU computes in parallel; by default as many as PyTorch has threads. The result does not
            depend on it.
    """

    tile: Side | Literal["auto"] | None = "auto"
    overlap: FromZero = 32
    margin: FromZero = 16
    seed: Seed = 0
    tolerance: Fraction | None = None
    hot_pixels: Literal["replace", "keep"] = "replace"
    scale: Scaling = "stack"
    noise: Noise = "correlated"
    average_neighbours: FromZero = 0
    neighbours_axis: NeighboursAxis = "auto"
    bfloat16: Switch = False
    compiled: bool = False
    batch: Count | None = None
    workers: Count | None = None
