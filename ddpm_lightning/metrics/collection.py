"""Computes all metrics of one image under one protocol, or states why a metric is missing.

:func:`score` never invents a number and never returns NaN as one: a metric that cannot be computed (LPIPS without its
backbone, MS-SSIM of a small crop, the correlation with a constant image) is in :attr:`Score.absent` with a reason for
the reader of the table. Bad images do not raise: one bad image among a thousand must not end an evaluation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddpm_lightning.metrics.backbone import find_backbone
from ddpm_lightning.metrics.decorrelation import decorrelation_resolution
from ddpm_lightning.metrics.frc import frc_against_target
from ddpm_lightning.metrics.linearity import linearity
from ddpm_lightning.metrics.mae import mae
from ddpm_lightning.metrics.nrmse import nrmse
from ddpm_lightning.metrics.pearson import pearson
from ddpm_lightning.metrics.protocol import PROTOCOLS, Fact, Protocol, Scored
from ddpm_lightning.metrics.psnr import psnr, scale_invariant_psnr
from ddpm_lightning.metrics.spectrum import high_frequency_ratio
from ddpm_lightning.metrics.squirrel import Squirrel, squirrel
from ddpm_lightning.metrics.ssim import ms_ssim, ssim

if TYPE_CHECKING:  # the package behind it is heavy, and a machine without it has all the other numbers
    from ddpm_lightning.metrics.lpips import Lpips

METRICS = ("mae", "psnr", "ms_ssim", "lpips", "nrmse", "pearson", "resolution")
RESOLUTION_METRICS = ("resolution_target", "resolution_ratio", "resolution_frc")
EXTRA_METRICS = ("si_psnr", "ssim", "slope", "intercept", "total_intensity_ratio", "high_frequency_ratio")
REFERENCE_METRICS = ("rsp", "rse")
#: Metrics of samples as a distribution; see ``uncertainty.py``. :func:`score` has only one image, and lacks them.
SAMPLE_METRICS = ("crps", "energy_score", "spread_skill", "coverage", "rank_divergence")

NO_BACKBONE = "no backbone: run `ddpm-lightning prepare lpips` or pass metrics.lpips.backbone=FILE"
NO_PACKAGE = "its package is not installed: run `pip install lpips`"
UNDEFINED = {
    "psnr": "infinite: the prediction equals the target",
    "nrmse": "its denominator, taken from the target, is not positive",
    "pearson": "not defined: prediction or target is constant",
    "resolution": "no structure above the noise in the prediction",
    "resolution_target": "no structure above the noise in the target",
    "resolution_ratio": "there is no resolution of the prediction or of the target",
    "resolution_frc": "prediction and target agree at no frequency",
    "si_psnr": "not finite: the target is constant, or the prediction equals it up to gain and offset",
    "slope": "not defined: the target is constant",
    "intercept": "not defined: the target is constant",
    "total_intensity_ratio": "not defined: the target sums to zero",
    "high_frequency_ratio": "not defined: the target has no power above the cut-off",
    "rsp": "not defined: prediction or reference is constant",
}

Plan = dict[str, Callable[[], Tensor | float]]


@dataclass(frozen=True)
class Score:
    """The numbers of one image.

    Attributes:
        values: Finite numbers by the name of their metric.
        absent: Reason by the name of each metric that was wanted and has no number.
        facts: What a reader needs beside the numbers: protocol, data range, denominator of the NRMSE; unit of
            the resolution; hash of the LPIPS backbone; gain and offset under ``affine``; shift and crop when
            re-aligned.
    """

    values: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)


def perceptual_metric(backbone: Path | str | None = None) -> "Lpips | str":
    """Returns LPIPS for :func:`score`, or the reason why it cannot be had.

    Args:
        backbone: File of the AlexNet backbone; ``None`` looks where ``ddpm-lightning prepare lpips`` puts it.

    Raises:
        UserError: If a file is named that is not there or holds something else.
    """
    path = find_backbone(backbone)
    if path is None:
        return NO_BACKBONE
    try:
        from ddpm_lightning.metrics.lpips import Lpips
    except ImportError:
        return NO_PACKAGE
    with torch.inference_mode(False):
        return Lpips.load(path)


def score(
    prediction: Tensor,
    target: Tensor,
    protocol: str | Protocol,
    *,
    full_scale: tuple[float, float] | None = None,
    pixel_size: float | None = None,
    lpips: "Lpips | str | None" = None,
    resolution: bool = False,
    extra: bool = False,
    reference: Tensor | None = None,
    align: bool = False,
) -> Score:
    """Returns every metric of one restored image.

    Args:
        prediction: Restored image with shape (1, C, H, W), in the unit of the target.
        target: Clean image with shape (1, C, H, W).
        protocol: ``paper``, ``range``, ``affine``, or a protocol of your own.
        full_scale: Black and white of the target's unit, such as (0, 255); ``paper`` needs it.
        pixel_size: Size of a pixel in µm; the resolution is then in nm, else in pixels.
        lpips: The loaded perceptual distance, or why there is none; ``None`` where there is no backbone.
        resolution: Whether to estimate the resolution of prediction and target by decorrelation (and their
            ratio, ideally 1), and by Fourier ring correlation the period down to which they agree.
        extra: Whether to add the metrics named in ``EXTRA_METRICS``.
        reference: The degraded image with shape (1, C, H, W). When given, RSP and RSE say whether the
            prediction, blurred back, agrees with it.
        align: Whether to undo a shift of the prediction first.
    """
    protocol = PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    wanted = METRICS + (RESOLUTION_METRICS if resolution else ()) + (EXTRA_METRICS if extra else ())
    wanted += REFERENCE_METRICS if reference is not None else ()
    fault = _fault(prediction, target)
    if fault:
        return Score(absent=dict.fromkeys(wanted, fault), facts={"protocol": protocol.name})

    pair = protocol.apply(prediction, target, full_scale=full_scale, align=align)
    plan = _pixel_plan(pair) | _perceptual_plan(pair, lpips)
    facts = pair.facts | ({} if lpips is None or isinstance(lpips, str) else {"lpips_backbone": lpips.sha256})
    if extra:
        plan |= _extra_plan(pair)
    if resolution:
        facts["resolution_unit"] = "px" if pixel_size is None else "nm"
        plan |= _resolution_plan(pair, 1.0 if pixel_size is None else 1000 * pixel_size, facts)
    if reference is not None:
        plan |= _reference_plan(prediction, reference)
    values, absent = _carry_out(plan)
    if not resolution:
        absent["resolution"] = "not asked for"
    return Score(values, {name: absent[name] for name in wanted if name in absent}, facts)


def _fault(prediction: Tensor, target: Tensor) -> str:
    """Returns why nothing can be said about these images, or an empty string."""
    if prediction.shape != target.shape:
        sizes = (" x ".join(str(side) for side in image.shape) for image in (prediction, target))
        return "the prediction has shape {} but the target {}".format(*sizes)
    if target.dim() != 4 or len(target) != 1 or not target.numel():
        return f"not one image with shape (1, C, H, W) but {tuple(target.shape)}"
    for name, image in (("prediction", prediction), ("target", target)):
        count = int((~image.isfinite()).sum())
        if count:
            return f"{count} of {image.numel()} pixels of the {name} are NaN or infinite"
    return ""


def _carry_out(plan: Plan) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the finite numbers and the reasons for those that are missing."""
    values, absent = {}, {}
    for name, compute in plan.items():
        try:
            value = float(compute())
        except ValueError as error:
            absent[name] = str(error)
            continue
        if isfinite(value):
            values[name] = value
        else:
            absent[name] = UNDEFINED.get(name, f"not finite ({value})")
    if {"resolution", "resolution_target"} <= values.keys():
        values["resolution_ratio"] = values["resolution"] / values["resolution_target"]
    elif "resolution_target" in plan:
        absent["resolution_ratio"] = UNDEFINED["resolution_ratio"]
    return values, absent


def _pixel_plan(pair: Scored) -> Plan:
    images = {"prediction": pair.prediction, "target": pair.target}
    return {
        "mae": lambda: mae(**images),
        "psnr": lambda: psnr(**images, data_range=pair.width()),
        "nrmse": lambda: nrmse(**images, by=pair.nrmse_by),
        "pearson": lambda: pearson(**images),
    }


def _perceptual_plan(pair: Scored, lpips: "Lpips | str | None") -> Plan:
    def distance() -> Tensor:
        if lpips is None or isinstance(lpips, str):
            raise ValueError(lpips or NO_BACKBONE)
        prediction, target = pair.unit()
        return lpips(prediction=2 * prediction - 1, target=2 * target - 1)

    def similarity() -> Tensor:
        prediction, target = pair.unit()
        return ms_ssim(prediction=prediction, target=target, data_range=1.0)

    return {"ms_ssim": similarity, "lpips": distance}


def _extra_plan(pair: Scored) -> Plan:
    images = {"prediction": pair.prediction, "target": pair.target}
    line = linearity(**images)

    def similarity() -> Tensor:
        prediction, target = pair.unit()
        return ssim(prediction=prediction, target=target, data_range=1.0)

    return {
        "si_psnr": lambda: scale_invariant_psnr(**images),
        "ssim": similarity,
        "slope": lambda: line.slope,
        "intercept": lambda: line.intercept,
        "total_intensity_ratio": lambda: line.total_intensity_ratio,
        "high_frequency_ratio": lambda: high_frequency_ratio(prediction=pair.prediction, target=pair.target),
    }


def _resolution_plan(pair: Scored, unit: float, facts: dict[str, Fact]) -> Plan:
    prediction, target = (image.mean(dim=(0, 1)).cpu().numpy() for image in (pair.prediction, pair.target))

    def agreement() -> float:
        found = frc_against_target(prediction, target, pixel_size=unit)
        # Two pixels is then a bound and no estimate, which the reader must know.
        facts["resolution_frc_at_nyquist"] = found.at_nyquist
        return found.resolution

    return {
        "resolution": lambda: decorrelation_resolution(prediction, pixel_size=unit).resolution,
        "resolution_target": lambda: decorrelation_resolution(target, pixel_size=unit).resolution,
        "resolution_frc": agreement,
    }


def _reference_plan(prediction: Tensor, reference: Tensor) -> Plan:
    fits: list[Squirrel] = []

    def fit() -> Squirrel:
        if not fits:
            images = (
                image.detach().double().mean(dim=(0, 1)).cpu().numpy() for image in (prediction, reference)
            )
            fits.append(squirrel(*images))
        return fits[0]

    return {"rsp": lambda: fit().rsp, "rse": lambda: fit().rse}
