"""Restores TIFF and OME-Zarr files with a trained model.

Examples:
  ddpm-lightning restore checkpoint=runs/demo/checkpoints/best.ckpt input=noisy.tif output=restored
  ddpm-lightning restore checkpoint=CKPT input=FOLDER output=restored samples=15 preview=true
  ddpm-lightning restore checkpoint=CKPT "input='day1/*.tif'" output=restored plan=true
  ddpm-lightning restore checkpoint=CKPT input=plate.zarr/A/1/0 output=restored
  ddpm-lightning restore checkpoint=CKPT input=[a.tif,b.tif] output=restored entropy=true single=true processes=2
  ddpm-lightning restore checkpoint=CKPT input=stack.tif output=restored preset=fast channels=[1]
  ddpm-lightning restore checkpoint=CKPT input=stack.tif output=restored preset=uncertainty samples=50 tolerance=0.01
  ddpm-lightning restore checkpoint=CKPT input=stack.tif output=restored sampler=ddim sampler.steps=10

preset=NAME stands for a sampler and a number of samples: mean (the default), paper, uncertainty, realistic, fast and
one_step for diffusion models; mean, realistic, balanced, fast, one_step, and uncertainty where samples are those of the
posterior, for flows; one_pass for all others. samples=N and sampler=ancestral, ddim, dpm_solver, one_step, euler or
stored (with sampler.steps=N and so on) win over it.

Writes to the output folder: NAME.tif with the same axes, data type and pixel size; NAME_std.tif, the standard deviation
of the samples in units of the image, if there are two or more; restore.json with the model, the settings, and for each
file clipped pixels, blank planes and warnings if it is unlike the training images. On request also NAME_entropy.tif,
NAME_interval_low.tif and _high.tif (for a calibrated model), NAME_sample_01.tif …, preview/NAME.png.

Repeating the same command resumes an interrupted job. A bad file among many is reported and skipped, and the exit
code is then 3 (on_error=stop stops at it).
"""

import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

import ddpm_lightning
from ddpm_lightning.checkpoints.card import training_of
from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.cli import compose
from ddpm_lightning.cli.reuse import in_words, kept_in_words, plot_preview, previews_alone, write_preview
from ddpm_lightning.inference.cost import plan, plane_cost
from ddpm_lightning.inference.files import Settings, check_names, results_of
from ddpm_lightning.inference.intervals import needed_intervals
from ddpm_lightning.inference.records import Records, tracked_results
from ddpm_lightning.inference.restoration import Restoration
from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import HOT_PIXELS, Restorer, choose_device
from ddpm_lightning.inference.sources import Found, Source, find_files
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.notes import KINDS, as_records, counted, total
from ddpm_lightning.io.stacks import open_stack, stem
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.atomic import DiskFull
from ddpm_lightning.utils.distributed import (
    Shard,
    is_distributed,
    lock_in_all,
    process_group,
    reproducible,
    run_in_processes,
)
from ddpm_lightning.utils.errors import Interrupted, UserError, printable
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.tile_progress import Meter

__all__ = ["restore_files", "run"]

#: Settings that decide about pixels: results that were made with others are made again.
DECISIVE = (
    "seed",
    "samples",
    "tolerance",
    "compiled",
    "channels",
    "tile",
    "overlap",
    "margin",
    "batch",
    "hot_pixels",
    "dtype",
)
#: Samples below which an entropy is commented on.
FEW_SAMPLES = 8
#: Choices of settings that are words.
CHOICES = {"on_error": ("skip", "stop"), "hot_pixels": HOT_PIXELS, "dtype": ("same", "float32", "uint16")}


def run(config: DictConfig) -> int:
    """Restores as the configuration says; returns 3 if some files failed."""
    settings = compose.plain(config)
    if settings["plan"]:
        print(_plan(settings))
        return 0
    found, folder = _files(settings)
    records = _restored(settings, found, folder)
    failed = [record for record in records if "error" in record]
    if records:
        for note in found.notes:
            print(printable(note.text))
        print(printable(_in_words(records, found, folder)))
    return 3 if failed else 0


def _in_words(records: list[dict[str, Any]], found: Found, folder: Path) -> str:
    """Returns the last line of a job: how many files are restored, and what was done without being requested."""
    failed = sum("error" in record for record in records)
    warned = sum(bool(record.get("warnings")) for record in records)
    notes = [*as_records(found.notes), *(note for record in records for note in record.get("notes", ()))]
    parts = [f"{len(records) - failed} of {counted(len(records), 'file')} restored"]
    parts += [f"{failed} skipped"] if failed else []
    parts += [f"{warned} with warnings" if warned else "no warnings"]
    for kind, count in total(notes).items():
        what, done = KINDS[kind]
        parts.append(f"{counted(count, what)} {done}")
    details = f"; details in {folder / 'restore.json'}" if len(parts) > 2 or warned else ""
    return ", ".join(parts) + details


def restore_files(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Restores files and writes ``restore.json``.

    Args:
        settings: Configuration of the verb ``restore``.

    Returns:
        A record for each file; those that failed have an ``error``. Nothing in all processes but the first.

    Raises:
        UserError: If nothing can be restored at all, or a file fails under ``on_error=stop`` or is the only one.
    """
    return _restored(settings, *_files(settings))


def _restored(settings: dict[str, Any], found: Found, folder: Path) -> list[dict[str, Any]]:
    processes = 1 if is_distributed() else min(settings["processes"], len(found.sources))
    # Tiles, files that are finished, and whether it is known which were finished before, of each process.
    counters = torch.zeros((3, processes), dtype=torch.int64).share_memory_()
    try:
        if processes > 1:
            return run_in_processes(_in_process, (settings, found, folder, counters), processes)
        return _in_process(settings, found, folder, counters)
    except (KeyboardInterrupt, Interrupted) as stop:
        number = stop.code - 128 if isinstance(stop, Interrupted) else signal.SIGINT
        raise Interrupted(number, kept_in_words(counters, len(found.sources), folder)) from None


def _in_process(
    settings: dict[str, Any], found: Found, folder: Path, counters: torch.Tensor
) -> list[dict[str, Any]]:
    threads = settings["workers"] or max(1, torch.get_num_threads() // settings["processes"])
    # Canvases by one thread, tiles side by side: the bytes do not depend on the number of threads.
    with process_group() as shard, reproducible(threads=1), lock_in_all(folder, settings["force"], shard):
        restorer = _restorer(settings, threads, shard)
        settings = {**settings, "samples": restorer.trained.samples}
        return _restore(restorer, settings, found, folder, shard, counters)


def _files(settings: dict[str, Any]) -> tuple[Found, Path]:
    """Returns the files to restore and the folder of the results, after a look at both."""
    for key, allowed in CHOICES.items():
        if settings[key] not in allowed:
            raise compose.unknown(key, str(settings[key]), allowed)
    given = settings["input"]
    given = [str(one) for one in given] if isinstance(given, list) else given
    if not isinstance(given, str | list) or "" in ([given] if isinstance(given, str) else given):
        raise UserError("input", f"is {given!r}", allowed="a file, a folder, a pattern, or a list of them")
    if not isinstance(settings["output"], str):
        raise UserError("output", f"is {settings['output']!r}", allowed="a folder, which is made")
    folder = expanded(settings["output"])
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f"output={folder}", "is a file", allowed="a folder, which is made if it does not exist"
        )
    return find_files(given, folder), folder


def _restorer(settings: dict[str, Any], threads: int, shard: Shard) -> Restorer:
    device = shard.device(choose_device(settings["device"]))
    names = ("tile", "overlap", "seed", "bfloat16", "batch", "margin", "tolerance", "compiled", "hot_pixels")
    ways = (settings[name] for name in ("sampler", "preset", "samples", "tta", "trust"))
    return Restorer(
        load(settings["checkpoint"], device, *ways),
        threads=threads,
        **{name: settings[name] for name in names},
    )


def _how(restorer: Restorer, settings: dict[str, Any]) -> Settings:
    """Returns which results are written."""
    several = not restorer.method.deterministic and settings["samples"] > 1
    if (settings["entropy"] or settings["intervals"]) and not several:
        asked = "entropy" if settings["entropy"] else "intervals"
        raise UserError(
            f"{asked}=true",
            "needs several different samples, but only one is computed for each image",
            remedy="leave it out, or set samples=15 with a probabilistic model",
        )
    if settings["tolerance"] is not None and (settings["single"] or settings["intervals"]):
        asked = "single" if settings["single"] else "intervals"
        raise UserError(
            f"{asked}=true",
            "needs a known number of samples; tolerance=… ends them early",
            remedy="leave one out",
        )
    intervals = None
    if settings["intervals"]:
        intervals = needed_intervals(restorer.trained, settings["samples"])
    samples = settings["samples"] if several else 1
    return Settings(
        samples,
        settings["channels"],
        settings["std"],
        settings["entropy"],
        intervals,
        settings["single"],
        settings["dtype"],
    )


def _restore(
    restorer: Restorer,
    settings: dict[str, Any],
    found: Found,
    folder: Path,
    shard: Shard,
    counters: torch.Tensor,
) -> list[dict[str, Any]]:
    how, files = _how(restorer, settings), found.sources
    previews = {
        source: [f"preview/{stem(source.name)}.png"] if settings["preview"] else [] for source in files
    }
    results = {source: [*results_of(source, how), *previews[source]] for source in files}
    check_names(results, folder)
    about, decisive = _about(restorer, settings, how.intervals)
    records = Records(folder, about, decisive)
    began = time.monotonic()
    if shard.first:
        records.begin(results)
    # Processes agree on what is left to do before any of them adds to what is done.
    standing = shard.agree({source: records.existing(source, results[source]) for source in files})
    done = {source: one.record for source, one in standing.items() if one.record and not one.missing}
    if shard.first:
        for line in in_words(standing, folder, _changed(records.before, about)):
            print(printable(line))
        drawn = [source for source in files if previews_alone(standing[source])]
        done |= {source: plot_preview(records, source, standing[source], how.channels) for source in drawn}
    done = shard.agree(done)
    waiting = [source for source in files if source not in done]
    if shard.first and waiting and how.std and how.samples == 1:
        print("one sample of each image: there is no standard deviation, and none is written")
    if shard.first and waiting and settings["entropy"] and how.samples < FEW_SAMPLES:
        print(f"the entropy of {how.samples} samples takes few values and tells little: make about 15")
    infos = {source: _info(source, how) for source in waiting}
    cost = {source: plane_cost(restorer, info, how.samples) if info else 0 for source, info in infos.items()}
    total = sum(cost[source] * info.plane_count for source, info in infos.items() if info)
    mine: dict[Path, dict[str, Any]] = {}
    # Under torchrun there is no memory to share, and each process counts for itself.
    place = shard.rank if counters.shape[1] == shard.processes else 0
    counters[1, place], counters[2, place] = shard.first * (len(files) - len(waiting)), 1
    with closing(records), Meter(total, counters[0], place, shown=shard.first) as meter:
        restorer.tiler.on_tiles, restorer.tiler.say = meter.count, meter.say
        for number in shard.of(len(waiting)):
            source = waiting[number]
            meter.name(printable(source.name))
            meter.expect(cost[source])

            def on_plane(
                number: int, plane: np.ndarray, restored: Restoration, source: Source = source
            ) -> None:
                meter.plane_done()
                if previews[source] and number == infos[source].plane_count // 2:
                    _preview(plane, restored, infos[source], folder / previews[source][0])

            try:
                with tracked_results(source) as made:
                    record = restore_file(restorer, source, folder, how, on_plane)
                if record["unlike_training"]:
                    meter.say(
                        f"{source.name} is unlike the training images: {'; '.join(record['unlike_training'])}"
                    )
                for note in record["notes"]:
                    meter.say(f"{source.name}: {note['text']}")
                if record["blank_planes"]:
                    planes = counted(len(record["blank_planes"]), "plane is", "planes are")
                    meter.say(f"{source.name}: {planes} constant and left unchanged")
                mine[source] = records.keep(made, record, results[source])
                counters[1, place] += 1
            except UserError as error:
                if settings["on_error"] == "stop" or len(files) == 1 or isinstance(error, DiskFull):
                    raise
                meter.say(f"skipped: {error}")
                mine[source] = {"file": source.name, "error": str(error)}
        gathered = shard.gather(mine)
    if not shard.first:
        return []
    made = {source: record for part in gathered for source, record in part.items()}
    ordered = [made[source] if source in made else done[source] for source in files]
    finished = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    records.write(
        ordered,
        left_aside=as_records(found.notes),
        finished=finished,
        seconds=round(time.monotonic() - began, 2),
    )
    return ordered


def _changed(before: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """Returns the settings that affect pixels and differ from the last job in this folder, with both values."""
    old, new = before.get("settings", {}), about["settings"]
    pairs = [(name, old.get(name), new[name]) for name in (*DECISIVE, "intervals") if name in old]
    pairs += [("sampler", before.get("sampler"), about["sampler"])] if "sampler" in before else []
    found = [f"{name}: {then} before, {now} now" for name, then, now in pairs if then != now]
    other = before.get("model", {}).get("sha256") not in (None, about["model"]["sha256"])
    return (["another model"] if other else []) + found


def _info(source: Source, how: Settings) -> ImageInfo | None:
    """Returns the description of a file, or nothing if it cannot be read: it is reported when its turn comes."""
    try:
        with open_stack(source.path, how.channels) as stack:
            return stack.info
    except UserError:
        return None


def _preview(plane: np.ndarray, restored: Restoration, info: ImageInfo, path: Path) -> None:
    images = {"low": plane, "restored": restored.mean}
    if restored.std is not None:
        images = {"low": plane, "average": restored.mean, "std": restored.std}
    write_preview(images, info.pixel_size, path)


def _plan(settings: dict[str, Any]) -> str:
    found, _ = _files(settings)
    threads = settings["workers"] or max(1, torch.get_num_threads() // settings["processes"])
    with reproducible(threads=1):
        restorer = _restorer(settings, threads, Shard())
        settings = {**settings, "samples": restorer.trained.samples}
        how, infos, lines = _how(restorer, settings), [], [note.text for note in found.notes]
        for source in found.sources:
            try:
                with open_stack(source.path, how.channels) as stack:
                    infos.append(stack.info)
                    lines += [f"{source.name}: {note.text}" for note in stack.notes]
            except UserError as error:
                if len(found.sources) == 1:
                    raise
                lines.append(f"cannot be restored: {error}")
        if not infos:
            raise UserError(f"input={settings['input']}", "none of the files can be read")
        return printable("\n".join([str(plan(restorer, infos, restorer.trained.samples)), *lines]))


def _about(
    restorer: Restorer, settings: dict[str, Any], intervals: Conformal | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what was used, and those of its parts that decide about the pixels."""
    trained = restorer.trained
    decisive = {name: settings[name] for name in DECISIVE}
    decisive |= {
        "bfloat16": restorer.bfloat16,
        "model": trained.sha256,
        "preset": trained.way,
        "intervals": intervals.to_dict() if intervals else None,
        "device": restorer.device.type,
    }
    about = {
        "model": {
            "file": str(trained.path),
            "sha256": trained.sha256,
            "names": trained.card["names"],
            "versions": trained.card.get("versions", {}),
            "training": training_of(trained.card),
        },
        "preset": trained.preset,
        "sampler": trained.way,
        "evaluations_per_sample": trained.method.evaluations,
        "checked_against_training": restorer.shift_check.checks,
        "settings": settings,
        "version": ddpm_lightning.__version__,
        "versions": {
            "ddpm_lightning": ddpm_lightning.__version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
        "device": str(restorer.device),
    }
    return about, decisive
