"""Restores a selection in a job: what the models cost, live parts, and everything that is known of the result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ddpm_lightning.checkpoints.load import ModelSettings, Trained
from ddpm_lightning.inference.calibration import required_intervals, std_map_in_words, std_map_record
from ddpm_lightning.inference.cost import plan, plane_cost
from ddpm_lightning.inference.device import choose_device
from ddpm_lightning.inference.observer import Observer
from ddpm_lightning.inference.plane_restorer import RestorerSettings
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restored_plane import PlaneNotes, replaced_pixels
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.notes import counted
from ddpm_lightning.io.stacks import stem
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.models.sampling import Evaluations
from ddpm_lightning.napari.job import Job
from ddpm_lightning.napari.selection import Selection
from ddpm_lightning.utils.distributed import reproducible
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import FromZero

__all__ = ["LivePart", "Model", "Request", "Restored", "measure", "restore"]

#: Side of the image on which the speed of a model is measured, in pixels.
MEASURED = 256


class LivePart(NamedTuple):
    """An estimate of a part of a plane, while the job is running.

    Attributes:
        plane: Number of the plane.
        top: First row of the part.
        left: First column of the part.
        pixels: Its pixels with shape (H, W), in intensities.
    """

    plane: int
    top: int
    left: int
    pixels: np.ndarray


class Request(ModelSettings):
    """What is restored by which model; beside its own, all settings of :class:`ModelSettings`.

    Attributes:
        intervals: Whether calibrated intervals are computed.
        keep: Number of single samples that are kept; 0 for none.
        seed: Seed of the samples.
    """

    intervals: bool = False
    keep: FromZero = 0
    seed: FromZero = 0


@dataclass(frozen=True)
class Model:
    """A loaded model with its speed on this computer.

    Attributes:
        trained: The model.
        speed: Seconds for each pixel: of the networks of the posterior, and of the network that makes samples.
    """

    trained: Trained
    speed: tuple[float, float]

    def seconds(self, info: ImageInfo, evaluations: Evaluations) -> float:
        """Returns the expected time for an image.

        Args:
            info: The image.
            evaluations: Network evaluations for each plane.
        """
        restorer = Restorer(self.trained)
        canvas = restorer.canvas(*info.plane_shape)
        height, width = restorer.tiler.size(*canvas)
        pixels = restorer.tiler.count(*canvas) * height * width * info.plane_count
        of_mean, of_sample = self.speed
        return pixels * (evaluations.mean * of_mean + evaluations.samples * of_sample)

    def presets(self, info: ImageInfo) -> dict[str, tuple[float, str]]:
        """Returns for each preset the expected seconds for an image, and what it is good for."""
        return {
            name: (self.seconds(info, evaluations), use)
            for name, (evaluations, use) in self.trained.presets().items()
        }


@dataclass(frozen=True)
class Restored:
    """The restoration of a selection.

    Attributes:
        selection: What was restored.
        restoration: Mean, standard deviation and samples with the shape of the selection.
        interval: Lower and upper bound of the calibrated interval, float32, or ``None``.
        level: Share of the pixels that the interval contains, or ``None``.
        lines: What is to be said: warnings, residual, calibration.
        model: Name of the model.
        preset: How it was restored.
    """

    selection: Selection
    restoration: Restoration
    interval: tuple[np.ndarray, np.ndarray] | None
    level: float | None
    lines: tuple[str, ...]
    model: str
    preset: str


def measure(request: Request, job: Job[LivePart, Model]) -> Model:
    """Loads a model, and measures its speed."""
    job.progress.doing = f"loading {request.checkpoint}"
    trained = request.load(choose_device("auto"))
    job.check()
    job.progress.doing = f"measuring the speed of {request.checkpoint}"
    workers = torch.get_num_threads()
    with reproducible(threads=1):
        restorer = Restorer(trained, observer=_JobObserver(job), workers=workers)
        try:
            info = ImageInfo("YX", (MEASURED, MEASURED), np.dtype(np.float32))
            return Model(trained, plan(restorer, [info], trained.samples).speed)
        finally:
            restorer.networks.release()


def restore(selection: Selection, request: Request, job: Job[LivePart, Restored]) -> Restored:
    """Restores a selection plane by plane.

    The pixels equal those that the command ``restore`` writes for a file with the name of the layer.

    Args:
        selection: What is restored.
        request: The model.
        job: The job that this is the work of; it gets live parts.

    Raises:
        UserError: If the selection cannot be restored.
        Cancelled: If the job is cancelled.
    """
    job.progress.doing = f"loading {request.checkpoint}"
    trained = request.load(choose_device("auto"))
    intervals = required_intervals(trained, request) if request.intervals else None
    keep = 0 if trained.method.deterministic else request.keep
    samples = trained.sample_count(request.samples or keep or None, bool(keep))
    # Canvases by one thread, tiles in parallel, as the command computes them.
    settings = RestorerSettings.of({"seed": request.seed, "workers": torch.get_num_threads()})
    with reproducible(threads=1):
        observer = _JobObserver(job)
        restorer = Restorer(trained, settings, observer)
        try:
            return _Work(restorer, selection, request, samples, observer).run(job, keep, intervals)
        finally:
            restorer.networks.release()


class _JobObserver(Observer):
    """Passes on to a job what a restoration reports."""

    def __init__(self, job: Job) -> None:
        self._job, self.plane = job, 0
        self.check = job.check

    def tiles_done(self, count: int) -> None:
        self._job.check()
        self._job.progress.done += count

    def estimate(self, top: int, left: int, pixels: np.ndarray) -> None:
        self._job.send(LivePart(self.plane, top, left, pixels))


@dataclass
class _Work:
    """The restoration of a selection."""

    restorer: Restorer
    selection: Selection
    request: Request
    samples: int
    observer: _JobObserver

    def run(self, job: Job[LivePart, Restored], keep: int, intervals: Conformal | None) -> Restored:
        info, restorer = self.selection.info, self.restorer
        cost = plane_cost(restorer, info, self.samples)
        job.progress.begin(cost * info.plane_count, f"restoring {self.selection.name}")
        inputs = restorer.stack_inputs(self._plane, info, stem(self.selection.name))
        planes, notes, bounds = [], PlaneNotes(), []
        for plane in restorer.restore_planes(
            map(self._plane, range(info.plane_count)),
            info,
            inputs.planes,
            self.samples or None,
            keep_samples=keep > 0,
        ):
            planes.append(plane.restored)
            notes.add(plane)
            job.send(LivePart(plane.number, 0, 0, plane.restored.mean))
            if intervals is not None:
                bounds.append(interval_of(plane.restored, intervals))
            self.observer.plane = plane.number + 1
            job.progress.done = cost * self.observer.plane
            job.check()
        restoration = Restoration.of_planes(
            planes, info.shape, blank=tuple(notes.blank), axes=info.axes, pixel_size=info.pixel_size
        )
        interval = None
        if intervals is not None:
            low, high = (np.stack(each).reshape(info.shape) for each in zip(*bounds, strict=True))
            interval = low, high
        return Restored(
            self.selection,
            restoration,
            interval,
            intervals.level if intervals else None,
            tuple(self._lines(notes, restoration)),
            self.request.checkpoint,
            restorer.trained.preset,
        )

    def _plane(self, number: int) -> np.ndarray:
        self.observer.check()
        return self.selection.plane(number)

    def _lines(self, notes: PlaneNotes, restoration: Restoration) -> Sequence[str]:
        """Returns what is to be said of the result, the most important first."""
        info, restorer = self.selection.info, self.restorer
        lines = [
            f"Unlike the training images: {text}"
            for text in restorer.shift_check.warnings(notes.features, info.pixel_size)
        ]
        residual = restorer.residual_check.warnings(notes.residuals)
        lines += [f"Residual: {text}" for text in residual]
        if notes.residuals and not residual:
            lines.append("Residual: no structure was found in what was removed")
        if notes.blank:
            lines.append(f"{counted(len(notes.blank), 'plane is', 'planes are')} constant and left unchanged")
        if notes.replaced:
            lines.append(replaced_pixels(notes.replaced))
        if restoration.std is not None:
            text = std_map_in_words(std_map_record(restorer, self.request, restoration.sample_count))
            lines.append(f"{text[:1].upper()}{text[1:]}")
        return lines


def interval_of(restored: Restoration, intervals: Conformal) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bounds of the calibrated interval of a plane, float32, in intensities.

    Raises:
        UserError: If it has no standard deviation.
    """
    std = restored.uncalibrated_std
    if std is None:
        raise UserError("intervals", "need a standard deviation", remedy="make several samples")
    half = intervals.factor * (std + np.float32(intervals.epsilon * restored.gain))
    return (restored.mean - half).astype(np.float32), (restored.mean + half).astype(np.float32)
