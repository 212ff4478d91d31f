"""Evaluates a model and writes the results into a folder: tables, ``summary.json``, ``summary.md``, plots, panels."""

import shlex
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from ddpm_lightning.evaluation.evaluate import Data, Evaluation, Model, SplitEvaluator
from ddpm_lightning.evaluation.settings import EvaluateSettings, FileName
from ddpm_lightning.evaluation.summary import finite
from ddpm_lightning.evaluation.tables import write_tables
from ddpm_lightning.inference.readout_table import TABLE, table_of
from ddpm_lightning.metrics.protocol import PROTOCOLS
from ddpm_lightning.reporting.evaluation_plots import plot_all
from ddpm_lightning.reporting.selected_panels import SelectedPanels
from ddpm_lightning.reporting.sentences import sentences
from ddpm_lightning.reporting.summary_page import summary_page
from ddpm_lightning.utils.atomic import read_json, remove_partials, write_json, write_text
from ddpm_lightning.utils.distributed import (
    Shard,
    is_distributed,
    process_group,
    reproducible,
    run_in_processes,
)
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.lock import check, hold
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.settings import FromZero

__all__ = ["EvaluationFolderSettings", "evaluate_into_folder"]

#: Files of an evaluation besides its figures.
TABLES = (
    *("summary.json", "summary.md", "metrics.csv", "uncertainty.csv", TABLE),
    *(f"metrics_{protocol}.csv" for protocol in PROTOCOLS),
)


class EvaluationFolderSettings(EvaluateSettings):
    """How a model is scored, and where the results are written.

    Attributes:
        output: Folder of the results; by default ``evaluations/DATE_TIME_SET_SPLIT``.
        figures: Number of images to show in panels; 0 writes no plots either.
        force: Whether to take over a locked folder whose owner cannot be checked, such as a job on another machine.
    """

    output: FileName | None = None
    figures: FromZero = 4
    force: bool = False


def evaluate_into_folder(
    model: Model, data: Data, settings: EvaluationFolderSettings
) -> tuple[Path, dict[str, Any]]:
    """Scores a model as :func:`ddpm_lightning.evaluation.evaluate.evaluate` does, and writes the results.

    Args:
        model: A checkpoint file, the name of a shipped model, or a loaded model.
        data: Pairs of noisy and clean images; by default those that the model was trained on.
        settings: How to score, and where to write.

    Returns:
        The folder, and the content of ``summary.json``, which is empty in all processes but the first.

    Raises:
        UserError: If the model, the data, the folder or a setting cannot be used, or no image could be scored.
    """
    if settings.processes > 1 and not is_distributed():
        return run_in_processes(evaluate_into_folder, (model, data, settings), settings.processes)
    with process_group() as shard, reproducible(settings.threads), ExitStack() as held:
        settings = settings.model_copy(update={"spectra": settings.spectra and settings.figures > 0})
        evaluator = SplitEvaluator(model, data, settings, shard)
        folder = _held_folder(settings, evaluator.data_name, shard, held)
        panels = SelectedPanels(folder / "figures", evaluator.data_name, settings.figures, evaluator.images)
        found = shard.gather((evaluator.scores(panels.add), panels))
        if not shard.first:
            return folder, {}
        panels.merge(others for _, others in found)
        evaluation = evaluator.evaluation([image for images, _ in found for image in images])
        return folder, _write(folder, evaluation, panels, figures=settings.figures > 0)


def _held_folder(settings: EvaluationFolderSettings, data: str, shard: Shard, held: ExitStack) -> Path:
    """Returns the folder of the results, which the first process has locked and cleaned of unfinished files."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = expanded(settings.output or f"evaluations/{stamp}_{data}_{settings.split}")
    if shard.first:
        held.enter_context(hold(folder, settings.force))
        _check_free(folder)
        remove_partials([folder, folder / "figures", folder / "viewer"])
    return shard.agree(folder)


def _write(folder: Path, evaluation: Evaluation, panels: SelectedPanels, figures: bool) -> dict[str, Any]:
    """Writes all files of an evaluation, and returns the content of ``summary.json``."""
    scores, numbers = evaluation.scores, evaluation.summary
    files = [name for _, name in panels.panels]
    if figures:
        files = [*plot_all(scores, numbers, panels.zoom, evaluation.reference, panels.folder), *files]
    summary = {
        **numbers,
        "in_words": sentences(numbers),
        "viewer_images": [asdict(images) for _, images in panels.viewer_images],
        "figures": files,
    }
    check(folder)
    _clear(folder, keep=_figures(summary))
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(scores, folder)
    if evaluation.readouts:
        write_text(folder / TABLE, table_of(evaluation.readouts))
    write_json(folder / "summary.json", finite(summary))
    write_text(folder / "summary.md", summary_page(summary, evaluation.diagnoses, files))
    return summary


def _check_free(folder: Path) -> None:
    """Checks that results can be written to a folder; it may contain an earlier evaluation.

    Raises:
        UserError: If it is the folder of a run, or contains other files with the names of ours.
    """
    if (folder / "checkpoints").is_dir():
        raise UserError(
            f"output={folder}",
            "is the folder of a run, whose metrics.csv is its learning curve",
            remedy=f"use {shlex.quote(f'output={folder}/evaluation')}",
        )
    found = [name for name in TABLES if (folder / name).exists()]
    if found and "estimators" not in read_json(folder / "summary.json"):
        raise UserError(
            f"output={folder}",
            f"contains {', '.join(found)}, not written by an evaluation",
            remedy="choose another folder",
        )


def _clear(folder: Path, keep: set[str]) -> None:
    """Removes the files of an earlier evaluation, and nothing else.

    Args:
        folder: Folder of the results.
        keep: Figures of this evaluation, which have been written already.
    """
    try:
        earlier = _figures(read_json(folder / "summary.json"))
    except (KeyError, TypeError, AttributeError):
        earlier = set()
    for name in {*TABLES, *earlier} - keep:
        (folder / name).unlink(missing_ok=True)
    for name in ("figures", "viewer"):
        with suppress(OSError):
            (folder / name).rmdir()  # if it is empty


def _figures(summary: dict[str, Any]) -> set[str]:
    """Returns the images of an evaluation, relative to its folder."""
    viewer = {
        f"viewer/{Path(file).name}"
        for images in summary["viewer_images"]
        for file in images["files"].values()
    }
    return viewer | {f"figures/{Path(name).name}" for name in summary["figures"]}
