"""Scores a trained model on a split of a data set, in one process or several."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ddpm_lightning.checkpoints.load import Trained, load
from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.pairs import PairSource
from ddpm_lightning.evaluation.calibrate import calibrate, check_calibration
from ddpm_lightning.evaluation.clean_targets import CleanTargets
from ddpm_lightning.evaluation.diagnostics import Diagnosis, diagnose
from ddpm_lightning.evaluation.distribution_shift import InputReference
from ddpm_lightning.evaluation.image_scores import ImageScores, Scoring, score_images
from ddpm_lightning.evaluation.readouts import calibrate_readouts, readout_rows, readout_summary
from ddpm_lightning.evaluation.restored_pair import Restored
from ddpm_lightning.evaluation.settings import EvaluateSettings
from ddpm_lightning.evaluation.split_summary import split_summary
from ddpm_lightning.evaluation.summary import by_place
from ddpm_lightning.inference.restorer import Restorer, choose_device
from ddpm_lightning.metrics.collection import perceptual_metric
from ddpm_lightning.readouts.intervals import FEWEST
from ddpm_lightning.readouts.readout import find_readouts
from ddpm_lightning.simulation.cache import without_new_cache
from ddpm_lightning.utils.allowed_classes import OWN
from ddpm_lightning.utils.distributed import (
    Shard,
    is_distributed,
    process_group,
    reproducible,
    run_in_processes,
)
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build
from ddpm_lightning.utils.tile_progress import Meter
from ddpm_lightning.utils.version import __version__

__all__ = ["Evaluation", "SplitEvaluator", "data_of", "evaluate"]

#: A checkpoint file, the name of a shipped model, or a loaded model.
Model = str | Path | Trained
#: A data module, or its description with ``_target_``; ``None`` stands for the data that the model was trained on.
Data = PairDataModule | Mapping[str, Any] | None


@dataclass(frozen=True)
class Evaluation:
    """The numbers of an evaluation.

    Attributes:
        scores: Scores of each image, in the order of the split.
        summary: What ``summary.json`` contains: medians, means and intervals over the images by estimator and metric,
            averaging, calibration, diagnostics, and how all of this was measured.
        diagnoses: Signs of failure.
        reference: Features of training images that the inputs were compared with, or ``None``.
        readouts: What was measured, a row for each image and number.
    """

    scores: list[ImageScores]
    summary: dict[str, Any]
    diagnoses: list[Diagnosis]
    reference: InputReference | None
    readouts: list[dict[str, Any]] = field(default_factory=list)


def evaluate(model: Model, data: Data = None, settings: EvaluateSettings | None = None) -> Evaluation:
    """Scores a trained model on a split of a data set.

    Three estimators are scored: the input itself (``raw``), the first sample (``single``) and the mean of all samples
    (``average``). The model is not changed, except that ``calibrate`` writes the calibration into its file.

    Args:
        model: A checkpoint file, the name of a shipped model, or a loaded model. The settings ``preset``, ``sampler``,
            ``tta``, ``device`` and ``trust`` apply to files only.
        data: Pairs of noisy and clean images; by default those that the model was trained on. They are normalised as
            the model requires.
        settings: How to score.

    Returns:
        Scores and summary. If torchrun started several processes, only the first one has them; in the others, all is
        empty.

    Raises:
        UserError: If the model, the data or a setting cannot be used, or no image could be scored.

    Example:
        >>> found = evaluate("default", data, EvaluateSettings(samples=15))  # doctest: +SKIP
        >>> found.summary["estimators"]["average"]["psnr"]["median"]  # doctest: +SKIP
    """
    settings = settings or EvaluateSettings()
    if settings.processes > 1 and not is_distributed():
        return run_in_processes(evaluate, (model, data, settings), settings.processes)
    with process_group() as shard, reproducible(settings.threads):
        evaluator = SplitEvaluator(model, data, settings, shard)
        found = shard.gather(evaluator.scores())
        if not shard.first:
            return Evaluation([], {}, [], None)
        return evaluator.evaluation([image for images in found for image in images])


class SplitEvaluator:
    """A loaded model and the images that one process scores it on.

    Args:
        model: See :func:`evaluate`.
        data: See :func:`evaluate`.
        settings: How to score.
        shard: Which of the images are for this process.

    Attributes:
        data_name: Name of the data set.
        images: Number of images that all processes score.

    Raises:
        UserError: If the model, the data or a setting cannot be used.
    """

    def __init__(self, model: Model, data: Data, settings: EvaluateSettings, shard: Shard) -> None:
        self.settings, self._shard = settings, shard
        self.trained = model if isinstance(model, Trained) else _loaded(model, settings, shard)
        module = data_of(self.trained, data)
        self.data_name: str = module.name
        self._source = _source(module, settings)
        self.images = min(len(self._source), settings.limit or len(self._source))
        samples = settings.samples or self.trained.samples
        if settings.calibrate:
            least = FEWEST if settings.readout else 0
            check_calibration(self.trained, settings.split, samples, settings.level, self.images, least)
        device = next(self.trained.method.parameters()).device
        self._restorer = Restorer(
            self.trained,
            tile=settings.tile,
            overlap=settings.overlap,
            seed=settings.seed,
            bfloat16=settings.bfloat16,
            # Rounding depends on the batch; on CPUs batches bring little.
            batch=1 if device.type == "cpu" else settings.batch,
            margin=settings.margin,
            hot_pixels=settings.hot_pixels,
        )
        self.scoring = Scoring(
            settings.protocol,
            1 if self.trained.method.deterministic else samples,
            perceptual_metric(settings.metrics.lpips.backbone),
            settings.metrics.resolution,
            tuple(dict.fromkeys(name for name in settings.also if name != settings.protocol)),
            settings.align,
            settings.metrics.squirrel,
            settings.level,
            settings.truth,
            spectra=settings.spectra,
            preset=self.trained.preset,
            realism=tuple(sorted(set(settings.realism))),
            readouts=find_readouts(settings.readout),
        )

    def scores(self, on_image: Callable[[Restored, ImageScores], None] | None = None) -> list[ImageScores]:
        """Scores the images of this process, with a progress bar in the first one.

        Args:
            on_image: Called with all versions of each image and its scores.
        """
        indices = self._shard.of(self.images)
        cost = self._cost(indices)
        counters = torch.zeros(1, dtype=torch.int64)
        with Meter(cost * len(indices), counters, shown=self._shard.first, doing="evaluating") as meter:
            self._restorer.tiler.on_tiles = meter.count
            found = score_images(
                self._restorer, self._source, self.scoring, meter.over(indices, cost), on_image
            )
            return list(found)

    def evaluation(self, scores: Sequence[ImageScores]) -> Evaluation:
        """Summarises the scores of all processes.

        Raises:
            UserError: If no image could be scored, or the model cannot be calibrated.
        """
        ordered = by_place(sorted(scores, key=lambda image: image.index))
        if all(image.failed for image in ordered):
            raise UserError(f"data set {self.data_name}", f"no image could be scored: {ordered[0].failed}")
        settings, samples = self.settings, self.scoring.samples
        reference, no_reference = input_reference(self.trained)
        diagnoses = diagnose(ordered, reference, no_reference)
        if settings.calibrate:
            calibrate(ordered, self.trained, settings.level, samples, self.data_name, settings.split)
        if settings.calibrate and self.scoring.readouts:
            calibrate_readouts(
                ordered,
                self.trained,
                self.scoring.readouts,
                samples,
                settings.level,
                self.data_name,
                settings.split,
                settings.readout_groups,
            )
        rows = readout_rows(ordered, self.trained, self.scoring.readouts, samples)
        calibration = self.trained.calibration(samples)
        summary = split_summary(ordered, self._about(), diagnoses, calibration)
        return Evaluation(ordered, summary | {"readouts": readout_summary(rows)}, diagnoses, reference, rows)

    def _about(self) -> dict[str, Any]:
        """Returns what was evaluated, and how."""
        trained, settings = self.trained, self.settings
        return {
            "protocol": self.scoring.protocol,
            "truth": self.scoring.truth,
            "data": self.data_name,
            "split": settings.split,
            "center_crop": settings.center_crop,
            "samples": self.scoring.samples,
            "preset": trained.preset,
            "sampler": trained.sampling,
            "mean": trained.mean,
            "deterministic": trained.method.deterministic,
            "tta": trained.tta,
            "nfe": trained.evaluations(self.scoring.samples).total,
            "nfe_per_sample": trained.evaluations(1).total,
            "seed": settings.seed,
            "bfloat16": self._restorer.bfloat16,
            "align": settings.align,
            "checkpoint": {
                "file": str(trained.path),
                "sha256": trained.sha256,
                "names": trained.card["names"],
                "evaluation": trained.card.get("config", {}).get("evaluation"),
            },
            "versions": {"ddpm_lightning": __version__, "torch": str(torch.__version__)},
        }

    def _cost(self, indices: Sequence[int]) -> int:
        """Returns the number of tiles that networks see for one image, estimated from the first readable one."""
        for index in indices:
            with suppress(UserError):
                height, width = self._source[index].low.shape
                tiles = self._restorer.tiles(height, width)
                return tiles * self.trained.evaluations(self.scoring.samples).total
        return 1


def data_of(trained: Trained, data: Data = None) -> PairDataModule:
    """Returns the data to score on, by default those of the training.

    Args:
        trained: The model.
        data: A data module, which is returned as it is; or a description, whose normalisation is replaced by that of
            the checkpoint.

    Raises:
        UserError: If the data set cannot be built.
    """
    if data is not None and not isinstance(data, Mapping):
        return data
    described = dict(data or without_new_cache(trained.card["data"]))
    described["normalisation"] = trained.card["normalisation"]["config"]
    if trained.method.neighbours:
        described["neighbours"] = trained.method.neighbours
    # A user may choose data of any class, a checkpoint only of an allowed one.
    module: PairDataModule = build(described, ("data",), OWN if data else trained.trust, "data")
    module.load_normalisation(trained.card["normalisation"]["state"])
    return module


def input_reference(trained: Trained) -> tuple[InputReference | None, str]:
    """Returns features of the training inputs, from the checkpoint or its training split, or the reason for none."""
    if "inputs" in trained.card:
        return InputReference.load(trained.card["inputs"]), ""
    try:
        return InputReference.of_split(data_of(trained)), ""
    except UserError as error:
        return None, f"the training images are not available ({' '.join(str(error).split())})"


def _loaded(checkpoint: str | Path, settings: EvaluateSettings, shard: Shard) -> Trained:
    return load(
        checkpoint,
        shard.device(choose_device(settings.device)),
        settings.sampler,
        settings.preset,
        settings.samples,
        settings.tta,
        settings.trust,
    )


def _source(data: PairDataModule, settings: EvaluateSettings) -> PairSource:
    """Returns the pairs of the split as recorded: the restorer replaces defective pixels."""
    source = data.pairs(settings.split).source
    if not data.paired(settings.split):
        raise UserError(
            f"data set {data.name}",
            f"has no clean images in its split {settings.split!r} to compare results with",
            remedy="name pairs by data=folder data.root=DIR, or inspect what `ddpm-lightning restore` makes",
        )
    if settings.truth == "clean":
        if "paper" in (settings.protocol, *settings.also):
            raise UserError(
                "truth=clean",
                "cannot be scored under the protocol paper, which rounds images to 8 bits as if they were recorded",
                allowed="the protocols range and affine",
                remedy="leave out paper, or use truth=recorded",
            )
        source = CleanTargets(source)
    return source if settings.center_crop is None else CenterCrops(source, settings.center_crop)
