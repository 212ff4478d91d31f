"""Scores a trained model on a split: raw, a single sample, and the average of the samples.

Examples:
  ddpm-lightning evaluate checkpoint=runs/demo/checkpoints/best.ckpt
  ddpm-lightning evaluate checkpoint=CKPT data=folder data.root=DIR split=test samples=15 protocol=affine
  ddpm-lightning evaluate checkpoint=CKPT also=[paper,affine] metrics.resolution=true processes=4
  ddpm-lightning evaluate checkpoint=CKPT split=val calibrate=true
  ddpm-lightning evaluate checkpoint=CKPT realism=[0,0.25,0.5,0.75,1]
  ddpm-lightning evaluate checkpoint=CKPT preset=realistic output=evaluations/realistic
  ddpm-lightning evaluate checkpoint=CKPT sampler=ddim sampler.steps=10 output=evaluations/ddim
  torchrun --nproc_per_node 8 -m ddpm_lightning evaluate checkpoint=CKPT

preset=NAME stands for a sampler and a number of samples: mean (the default), paper, uncertainty, realistic, fast and
one_step for diffusion models; mean, realistic, balanced, fast, one_step, and uncertainty where samples are those of the
posterior, for flows; one_pass for all others. samples=N and sampler=ancestral, ddim, dpm_solver, one_step, euler or
stored (with sampler.steps=N and so on) win over it.

Leaves in the output folder: summary.md (to read), summary.json, metrics.csv (a row for each image and estimator),
metrics_PROTOCOL.csv for each further protocol, uncertainty.csv, figures/. calibrate=true leaves CKPT.intervals.json
beside the checkpoint; later evaluations of that checkpoint with as many samples say how many pixels its intervals hold.
Images that cannot be scored are listed, and the exit code is then 3.
"""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

import ddpm_lightning
from ddpm_lightning.checkpoints.load import Trained, load
from ddpm_lightning.cli import compose
from ddpm_lightning.cli.intervals import check_calibration, store_intervals, stored_intervals
from ddpm_lightning.data.center_crop import CenterCrops
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.pairs import PairSource
from ddpm_lightning.evaluation.distribution_shift import InputReference
from ddpm_lightning.evaluation.run import ImageScores, Scoring, evaluate
from ddpm_lightning.evaluation.summary import by_place, finite
from ddpm_lightning.evaluation.tables import summary_markdown
from ddpm_lightning.inference.restorer import Restorer, choose_device
from ddpm_lightning.metrics.collection import perceptual_metric
from ddpm_lightning.metrics.protocol import PROTOCOLS
from ddpm_lightning.reporting.results import diagnose, plot_all, summary_of, write_tables
from ddpm_lightning.reporting.selected_panels import SelectedPanels
from ddpm_lightning.reporting.summary_page import summary_page
from ddpm_lightning.simulation.cache import without_new_cache
from ddpm_lightning.utils.atomic import read_json, remove_partials, write_json, write_text
from ddpm_lightning.utils.distributed import (
    Shard,
    is_distributed,
    process_group,
    reproducible,
    run_in_processes,
)
from ddpm_lightning.utils.errors import UserError, printable
from ddpm_lightning.utils.instantiate import build
from ddpm_lightning.utils.lock import check, hold
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.registry import OWN
from ddpm_lightning.utils.tile_progress import Meter

__all__ = ["data_of", "run", "score_checkpoint"]

#: What an evaluation leaves beside its panels.
TABLES = (
    *("summary.json", "summary.md", "metrics.csv", "uncertainty.csv"),
    *(f"metrics_{protocol}.csv" for protocol in PROTOCOLS),
)


def run(config: DictConfig) -> int:
    """Evaluates as the configuration says and prints the table; returns 3 if images could not be scored."""
    settings = compose.plain(config)
    folder, summary = score_checkpoint(settings)
    if not summary:
        return 0
    print(
        printable(
            f"\n{summary_markdown(summary)}\nresults in {folder}, to be read from {folder / 'summary.md'}"
        )
    )
    return 3 if summary["failed"] else 0


def score_checkpoint(settings: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Scores a checkpoint and writes the results.

    Args:
        settings: Configuration of the verb ``evaluate``.

    Returns:
        The folder of the results, and the summary; an empty summary in all processes but the first.

    Raises:
        UserError: If the checkpoint, the data or a setting cannot be used.
    """
    if isinstance(settings["also"], str):
        settings = {**settings, "also": [settings["also"]]}
    for protocol in (settings["protocol"], *settings["also"]):
        if protocol not in PROTOCOLS:
            raise compose.unknown("protocol", str(protocol), PROTOCOLS)
    if settings["processes"] > 1 and not is_distributed():
        return run_in_processes(score_checkpoint, (settings,), settings["processes"])
    with process_group() as shard, reproducible(settings["threads"]), ExitStack() as held:
        return _score(settings, shard, held)


def _score(settings: dict[str, Any], shard: Shard, held: ExitStack) -> tuple[Path, dict[str, Any]]:
    trained = load(
        settings["checkpoint"],
        shard.device(choose_device(settings["device"])),
        settings["sampler"],
        settings["preset"],
        settings["samples"],
        settings["tta"],
        settings["trust"],
    )
    settings = {**settings, "samples": trained.samples}
    data = data_of(trained, settings.get("data"))
    source = data.pairs(
        settings["split"]
    ).source  # as recorded: defective pixels are the restorer's to replace
    if not data.paired(settings["split"]):
        raise UserError(
            f"data set {data.name}",
            f"has no clean images in its split {settings['split']!r}, with which results could be compared",
            remedy="name pairs by data=folder data.root=DIR, or look at what `ddpm-lightning restore` makes",
        )
    if settings["center_crop"] is not None:
        source = CenterCrops(source, settings["center_crop"])
    count = min(len(source), settings["limit"] or len(source))
    if settings["calibrate"]:
        check_calibration(settings, trained, count)
    restorer = Restorer(
        trained,
        settings["tile"],
        settings["overlap"],
        settings["seed"],
        settings["bfloat16"],
        settings["batch"],
        margin=settings["margin"],
    )
    if restorer.device.type == "cpu":
        restorer.batch = 1  # rounding depends on the batch; on CPUs batches bring little
    scoring = Scoring(
        settings["protocol"],
        1 if trained.method.deterministic else settings["samples"],
        perceptual_metric(settings["metrics"]["lpips"]["backbone"]),
        settings["metrics"]["resolution"],
        tuple(dict.fromkeys(name for name in settings["also"] if name != settings["protocol"])),
        settings["align"],
        settings["metrics"]["squirrel"],
        settings["level"],
        curves=settings["figures"] > 0,
        preset=trained.preset,
        realism=_shares(settings["realism"]),
    )
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = expanded(settings["output"] or f"evaluations/{stamp}_{data.name}_{settings['split']}")
    if shard.first:
        held.enter_context(hold(folder, settings["force"]))
        _check_free(folder)
        remove_partials([folder, folder / "figures", folder / "viewer"])
    folder = shard.agree(folder)
    panels = SelectedPanels(folder / "figures", data.name, settings["figures"], count)
    mine = shard.of(count)
    cost = _cost(restorer, source, mine, scoring.samples)
    counters = torch.zeros(1, dtype=torch.int64)
    with Meter(cost * len(mine), counters, shown=shard.first, doing="evaluating") as meter:
        restorer.tiler.on_tiles = meter.count
        scores = list(evaluate(restorer, source, scoring, meter.over(mine, cost), panels.add))
    found = shard.gather((scores, panels))
    if not shard.first:
        return folder, {}
    scores = sorted((image for images, _ in found for image in images), key=lambda image: image.index)
    scores = by_place(scores)
    panels.merge(others for _, others in found)
    if all(image.failed for image in scores):
        raise UserError(f"data set {data.name}", f"no image could be scored: {scores[0].failed}")
    about = {
        "protocol": scoring.protocol,
        "data": data.name,
        "split": settings["split"],
        "center_crop": settings["center_crop"],
        "samples": scoring.samples,
        "preset": trained.preset,
        "sampler": trained.way,
        "nfe_per_sample": trained.method.evaluations,
        "seed": settings["seed"],
        "bfloat16": restorer.bfloat16,
        "align": settings["align"],
        "checkpoint": {"file": str(trained.path), "sha256": trained.sha256, "names": trained.card["names"]},
        "versions": {"ddpm_lightning": ddpm_lightning.__version__, "torch": str(torch.__version__)},
    }
    return folder, _write(folder, scores, panels, about, trained, settings)


def _write(
    folder: Path,
    scores: list[ImageScores],
    panels: SelectedPanels,
    about: dict[str, Any],
    trained: Trained,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Writes everything that an evaluation leaves, and returns the summary."""
    reference, no_reference = _reference(trained)
    diagnoses = diagnose(scores, reference, no_reference)
    if settings["calibrate"]:
        intervals = store_intervals(scores, about, trained, settings["level"])
    else:
        intervals = stored_intervals(trained, about["samples"])
    summary = summary_of(scores, about, diagnoses, *intervals)
    summary["viewer_images"] = [asdict(view) for _, view in panels.viewer_images]
    drawn = [name for _, name in panels.panels]
    if settings["figures"]:
        drawn = [*plot_all(scores, summary, panels.zoom, reference, panels.folder), *drawn]
    summary["figures"] = drawn
    check(folder)
    _clear(folder, keep=_figures(summary))
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(scores, folder)
    write_json(folder / "summary.json", finite(summary))
    write_text(folder / "summary.md", summary_page(summary, diagnoses, drawn))
    return summary


def _check_free(folder: Path) -> None:
    """Refuses a folder that results cannot have; an earlier evaluation may lie there.

    Raises:
        UserError: If the folder is that of a run, or holds files of others under our names.
    """
    if (folder / "checkpoints").is_dir():
        raise UserError(
            f"output={folder}",
            "is the folder of a run, whose metrics.csv is its learning curve",
            remedy=f"give {shlex.quote(f'output={folder}/evaluation')}",
        )
    found = [name for name in TABLES if (folder / name).exists()]
    if found and "estimators" not in read_json(folder / "summary.json"):
        raise UserError(
            f"output={folder}",
            f"holds {', '.join(found)}, which no evaluation left there",
            remedy="choose another folder",
        )


def _clear(folder: Path, keep: set[str]) -> None:
    """Removes what an earlier evaluation left, and nothing else, now that there is something to replace it.

    Args:
        folder: Folder of the results.
        keep: SelectedPanels of this evaluation, which are there already.
    """
    try:
        earlier = _figures(read_json(folder / "summary.json"))
    except (KeyError, TypeError, AttributeError):
        earlier = set()  # an earlier version did not list them
    for name in {*TABLES, *earlier} - keep:
        (folder / name).unlink(missing_ok=True)
    for name in ("figures", "viewer"):
        with suppress(OSError):
            (folder / name).rmdir()  # if it is empty


def _figures(summary: dict[str, Any]) -> set[str]:
    """Returns the panels of an evaluation, relative to its folder."""
    views = {
        f"viewer/{Path(file).name}" for view in summary["viewer_images"] for file in view["files"].values()
    }
    return views | {f"figures/{Path(name).name}" for name in summary["figures"]}


def _cost(restorer: Restorer, source: PairSource, indices: Sequence[int], samples: int) -> int:
    """Returns how many tiles networks see for an image, going by the first that can be read."""
    for index in indices:
        with suppress(UserError):
            return restorer.tiles(*source[index].low.shape) * samples * restorer.method.evaluations
    return 1


def _shares(values: Any) -> tuple[float, ...]:
    """Returns the values of λ that were asked for, in rising order."""
    given = values if isinstance(values, list) else [values]
    for value in given:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(
                "realism", f"holds {value!r}", allowed="numbers from 0 (the mean) to 1 (a sample)"
            )
    return tuple(sorted({float(value) for value in given}))


def data_of(trained: Trained, node: dict[str, Any] | None = None) -> PairDataModule:
    """Builds the data set to score on, by default that of the training, with the normalisation of the checkpoint."""
    described = dict(node or without_new_cache(trained.card["data"]))
    # Data that the user chose may be of any class; those that a file names, of an allowed one. The normalisation was
    # checked when the file was loaded.
    trust = OWN if node else trained.trust
    described["normalisation"] = trained.card["normalisation"]["config"]
    data: PairDataModule = build(described, ("data",), trust)
    data.load_normalisation(trained.card["normalisation"]["state"])
    return data


def _reference(trained: Trained) -> tuple[InputReference | None, str]:
    """Returns what training inputs look like: as the checkpoint says, else from its training split, if it is here."""
    if "inputs" in trained.card:
        return InputReference.load(trained.card["inputs"]), ""
    try:
        return InputReference.of_split(data_of(trained)), ""
    except UserError as error:
        return None, f"the training images are not here ({' '.join(str(error).split())})"
