"""Settings of an evaluation."""

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ddpm_lightning.datasets.preparation.layouts import check_pattern
from ddpm_lightning.models.sampling import Tta
from ddpm_lightning.readouts.readout import ReadoutNames
from ddpm_lightning.utils.settings import Count, Fraction, FromZero, Seed, Settings, Side, Switch, Text

#: A regular expression with a group.
Pattern = Annotated[str, AfterValidator(lambda pattern: _with_group(pattern))]
__all__ = ["EvaluateSettings", "FileName", "MetricSettings", "Protocol", "Texts", "Truth"]


def _as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _with_group(pattern: str) -> str:
    check_pattern(pattern or None, "readout_groups")
    return pattern


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


#: Path of a file or folder, as text or :class:`pathlib.Path`.
FileName = Annotated[Text, BeforeValidator(_as_text)]
#: A list of texts; a single text is a list of one.
Texts = Annotated[list[Text], BeforeValidator(_as_list)]
#: Name of a protocol of :mod:`ddpm_lightning.metrics.protocol`.
Protocol = Literal["paper", "range", "affine"]
#: What restored images are scored against; see :class:`EvaluateSettings`.
Truth = Literal["recorded", "clean"]


class LpipsSettings(Settings):
    """Settings of LPIPS.

    Attributes:
        backbone: File of the AlexNet backbone; by default the one that ``ddpm-lightning prepare lpips`` fetched.
    """

    backbone: FileName | None = None


class MetricSettings(Settings):
    """Metrics that are not computed by default, and their files.

    Attributes:
        resolution: Whether to estimate the resolution (2 s an image).
        squirrel: Whether to compare restored images, blurred back, with their inputs (RSP and RSE).
        lpips: Settings of LPIPS.
    """

    resolution: bool = False
    squirrel: bool = False
    lpips: LpipsSettings = LpipsSettings()


class EvaluateSettings(Settings):
    """How a model is scored on a split of a data set.

    Attributes:
        split: Split to score: ``train``, ``val`` or ``test``.
        preset: Named sampler and number of samples; by default the first preset of the model.
        sampler: Settings that replace those of the sampler; with ``_target_`` another sampler.
        samples: Samples of each image, which are averaged; by default those of the preset.
        tta: Whether samples use test-time augmentation, or in how many orientations, from 2 to 8, deterministic
            networks are applied (``True``: 2); by default as the model's preset says.
        seed: Seed of the samples.
        protocol: ``paper`` (8 bit), ``range`` (range of the target) or ``affine`` (gain and offset fitted).
        also: Further protocols, each with a table of its own.
        truth: What to score against: the clean image as it was ``recorded``, or the ``clean`` image without noise,
            which simulated sets know for their test images.
        align: Whether to undo a shift of restored images before scoring; the metrics of samples are computed without.
        realism: Values of λ from 0 to 1 at which mean + λ (sample - mean) is scored as well.
        calibrate: Whether to measure the factors of the standard deviation and of calibrated intervals, and to store
            them in the checkpoint; needs ``split="val"``.
        level: Share of the pixels that intervals should contain.
        limit: Score only this many images, from the start of the split.
        center_crop: Side in pixels of the central square of each image that is scored; by default all of the image.
        bfloat16: Whether networks compute in bfloat16; ``auto`` does if the processor supports it.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        tile: Side in pixels of the tiles of large images; by default images are restored as a whole.
        overlap: Pixels that neighbouring tiles share.
        margin: Reflected pixels around each image.
        hot_pixels: Whether defective pixels are replaced before restoration (``replace``) or kept (``keep``).
        processes: Processes that share the images; the numbers do not depend on it.
        threads: Threads of each process; it changes the last digits by rounding.
        batch: Most samples that a GPU computes together; a CPU computes one at a time.
        metrics: Further metrics.
        spectra: Whether to compute power spectra and Fourier ring correlations.
        trust: Packages whose classes the checkpoint may use.
        readout: What is measured in restored and clean images (:mod:`ddpm_lightning.readouts.readout`);
            with ``calibrate`` their intervals are calibrated as well.
        readout_groups: Regular expression whose first group, in the name of an image, is the group of images that it
            belongs to; each group then has intervals of its own.
    """

    split: Text = "test"
    preset: Text | None = None
    sampler: dict[str, Any] | None = None
    samples: Count | None = None
    tta: Tta | None = None
    seed: Seed = 0
    protocol: Protocol = "range"
    also: Annotated[list[Protocol], BeforeValidator(_as_list)] = []
    truth: Truth = "recorded"
    align: bool = False
    realism: Annotated[list[Annotated[float, Field(ge=0, le=1)]], BeforeValidator(_as_list)] = []
    calibrate: bool = False
    level: Fraction = 0.9
    limit: Count | None = None
    center_crop: Side | None = None
    bfloat16: Switch = False
    device: Text = "auto"
    tile: Side | None = None
    overlap: FromZero = 32
    margin: FromZero = 16
    hot_pixels: Literal["replace", "keep"] = "replace"
    processes: Count = 1
    threads: Count = 1
    batch: Count | None = None
    metrics: MetricSettings = MetricSettings()
    spectra: bool = True
    trust: Texts = []
    readout: ReadoutNames = []
    readout_groups: Pattern = ""
