"""Restores many files in several processes: finished files are kept, and one record describes the job."""

import signal
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from ddpm_lightning.checkpoints.load import ModelSettings
from ddpm_lightning.inference.calibration import required_intervals, std_map_record
from ddpm_lightning.inference.cost import plan, plane_cost
from ddpm_lightning.inference.device import choose_device
from ddpm_lightning.inference.provenance import changed_settings, job_record
from ddpm_lightning.inference.records import Records, tracked_results
from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restored_folder import RestoredFolder
from ddpm_lightning.inference.restored_plane import RestoredPlane
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.restorer_settings import RestorerSettings
from ddpm_lightning.inference.result_files import BY_NETWORKS, FileSettings, check_names, results_of
from ddpm_lightning.inference.reuse import (
    lacks_only_previews,
    plot_preview,
    plot_preview_of_results,
    preview_name,
    reuse_lines,
)
from ddpm_lightning.inference.shards import FileShard, locked
from ddpm_lightning.inference.sources import Found, Source, find_files
from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.notes import as_records, counted
from ddpm_lightning.io.stacks import open_stack
from ddpm_lightning.utils.atomic import DiskFull
from ddpm_lightning.utils.distributed import (
    Shard,
    is_distributed,
    process_group,
    reproducible,
    run_in_processes,
)
from ddpm_lightning.utils.errors import Interrupted, UserError, printable
from ddpm_lightning.utils.settings import Count, PathText, Text, UserPath
from ddpm_lightning.utils.tile_progress import Meter

__all__ = ["RestoreSettings", "RestoredFolder", "plan_folder", "restore_folder"]

#: Number of samples below which the entropy says little.
FEW_SAMPLES = 8


class RestoreSettings(ModelSettings, RestorerSettings, FileSettings):
    """Which files are restored, how, and what is written; beside its own, all settings of its base classes.

    Attributes:
        input: A file, a folder, a pattern such as ``day1/*.tif``, or a list of them.
        output: Folder of the results, which is made; not that of the input.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        preview: Whether ``preview/NAME.png`` shows the middle plane before and after.
        plan: Whether the command ``restore`` only says what the job will cost.
        processes: Processes that share the files; the results are the same for any number.
        shard: Restores only a part of the files, such as ``0/8``, the first of eight
            (:mod:`ddpm_lightning.inference.shards`).
        on_error: ``skip`` reports a file that cannot be restored and continues; ``stop`` raises.
        force: Whether to take over the folder of a job that has ended but cannot be checked, such as one on another
            machine.
    """

    input: PathText | Annotated[list[PathText], Field(min_length=1)]
    output: UserPath
    device: Text = "auto"
    preview: bool = False
    plan: bool = False
    processes: Count = 1
    shard: Text | None = None
    on_error: Literal["skip", "stop"] = "skip"
    force: bool = False


def restore_folder(settings: RestoreSettings | None = None, /, **values: Any) -> RestoredFolder:
    """Restores files, and writes ``restore.json`` beside them; a job that was interrupted is resumed.

    Args:
        settings: Which files, how, and what is written.
        values: Single settings of :class:`RestoreSettings` by name, which take precedence: ``checkpoint``, ``input``
            and ``output`` at least.

    Returns:
        What was done. Files that cannot be restored are reported and skipped, unless ``on_error`` is ``stop`` or there
        is only one.

    Raises:
        UserError: If a setting is unknown or out of range, or if nothing can be restored.
        Interrupted: If the job was interrupted by a signal; it says which files are finished.
    """
    if settings is None or values:
        settings = RestoreSettings.of({**(dict(settings) if settings else {}), **values})
    found, folder, mine = _input_and_output(settings)
    files = mine.of_all(found.sources) if mine else found.sources
    processes = 1 if is_distributed() else max(min(settings.processes, len(files)), 1)
    # Tiles, files that are finished, and whether it is known which were finished before, of each process.
    counters = torch.zeros((3, processes), dtype=torch.int64).share_memory_()
    arguments = (settings, found, mine, counters)
    try:
        records, remaining = (
            run_in_processes(_in_process, arguments, processes) if processes > 1 else _in_process(*arguments)
        )
    except (KeyboardInterrupt, Interrupted) as stop:
        number = stop.code - 128 if isinstance(stop, Interrupted) else signal.SIGINT
        raise Interrupted(number, _kept(counters, len(files), folder)) from None
    return RestoredFolder(folder, records, found.notes, remaining)


def plan_folder(settings: RestoreSettings) -> str:
    """Says what a job will cost, with remarks on its files; nothing is restored.

    Raises:
        UserError: If nothing can be restored.
    """
    found, _, mine = _input_and_output(settings)
    files = mine.of_all(found.sources) if mine else found.sources
    workers = _workers(settings)
    with reproducible(threads=1):
        restorer = load_restorer(settings, Shard(), workers)
        settings = settings.for_model(restorer.trained, settings.average_neighbours > 0)
        infos, lines = [], [note.text for note in found.notes]
        for source in files:
            try:
                with open_stack(source.path, settings.channels) as stack:
                    infos.append(stack.info)
                    lines += [f"{source.name}: {note.text}" for note in stack.notes]
            except UserError as error:
                if len(files) == 1:
                    raise
                lines.append(f"cannot be restored: {error}")
        if not infos:
            raise UserError(f"input={settings.input}", "none of the files can be read")
        cost = plan(restorer, infos, settings.sample_count)
        return printable("\n".join([str(cost), *lines]))


def _input_and_output(settings: RestoreSettings) -> tuple[Found, Path, FileShard | None]:
    """Returns the files to restore, the folder of the results, and the shard of the job."""
    folder, mine = settings.output, FileShard.of(settings.shard) if settings.shard else None
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f"output={folder}", "is a file", allowed="a folder, which is made if it does not exist"
        )
    return find_files(settings.input, folder, settings.format), folder, mine


def _workers(settings: RestoreSettings) -> int:
    return settings.workers or max(1, torch.get_num_threads() // settings.processes)


def _in_process(
    settings: RestoreSettings, found: Found, mine: FileShard | None, counters: torch.Tensor
) -> tuple[list[dict[str, Any]], int]:
    workers, folder = _workers(settings), settings.output
    # Canvases by one thread, tiles in parallel: the bytes do not depend on the number of threads.
    with process_group() as shard, reproducible(threads=1), locked(folder, mine, settings.force, shard):
        restorer = load_restorer(settings, shard, workers)
        resolved = settings.for_model(restorer.trained, settings.average_neighbours > 0)
        if settings.samples and not resolved.sample_count and shard.first:
            print(f"samples={settings.samples} has no effect: {BY_NETWORKS}")
        return _Job(restorer, resolved, found, mine, shard, counters).run()


def load_restorer(settings: RestoreSettings, shard: Shard, workers: int) -> Restorer:
    """Loads the model of a process; each process has a GPU of its own, as far as they suffice."""
    trained = settings.load(shard.device(choose_device(settings.device)))
    return Restorer(trained, settings.model_copy(update={"workers": workers}))


class _Job:
    """The files of a folder, restored by one of the processes that share them.

    Args:
        restorer: The model.
        settings: How, and what is written.
        found: All files.
        mine: The shard of the job, or ``None`` if it is not divided.
        shard: The part of this process.
        counters: By process: tiles, finished files, and whether those that were finished before are counted.
    """

    def __init__(
        self,
        restorer: Restorer,
        settings: RestoreSettings,
        found: Found,
        mine: FileShard | None,
        shard: Shard,
        counters: torch.Tensor,
    ) -> None:
        fixed = {
            "single=true": settings.single,
            "intervals=true": settings.intervals,
            f"projections=[{','.join(settings.projections)}]": bool(settings.projections),
        }
        if settings.tolerance is not None and any(fixed.values()):
            raise UserError(
                next(name for name, requested in fixed.items() if requested),
                "needs a fixed number of samples; tolerance=… ends sampling early",
                remedy="leave one out",
            )
        self.restorer, self.settings, self.mine, self.shard = restorer, settings, mine, shard
        self.folder, self.found, self.counters = settings.output, found, counters
        self.files = mine.of_all(found.sources) if mine else found.sources
        self.intervals = required_intervals(restorer.trained, settings) if settings.intervals else None
        self.std_map = std_map_record(restorer, settings, settings.sample_count)
        results = {
            source: [*results_of(source, settings), *[preview_name(source)] * settings.preview]
            for source in found.sources
        }
        check_names(results, self.folder)
        self.results = {source: results[source] for source in self.files}
        self.about, decisive = job_record(restorer, settings, self.intervals)
        self.records = Records(self.folder, self.about, decisive, mine.place(self.folder) if mine else None)
        # Under torchrun there is no memory to share, and each process counts for itself.
        self.place = shard.rank if counters.shape[1] == shard.processes else 0

    def run(self) -> tuple[list[dict[str, Any]], int]:
        """Restores the files of this process.

        Returns:
            A record for each file of the job, or of its shard, in the first process, and nothing in the others; and how
            many files other shards have not finished.
        """
        began = time.monotonic()
        done = self._reused()
        waiting = [source for source in self.files if source not in done]
        if self.shard.first and waiting:
            self._comment()
        self.counters[1, self.place] = self.shard.first * (len(self.files) - len(waiting))
        self.counters[2, self.place] = 1
        with closing(self.records):
            gathered = self.shard.gather(self._restored(waiting))
        if not self.shard.first:
            return [], 0
        done |= {source: record for part in gathered for source, record in part.items()}
        records = of_job = [done[source] for source in self.files]
        seconds = time.monotonic() - began
        if self.mine:
            of_job = self.records.outcomes(self.found.sources)
            seconds = sum(record.get("seconds", 0) for record in of_job)
        if not (remaining := len(self.found.sources) - len(of_job)):
            self.records.write(
                of_job,
                left_aside=as_records(self.found.notes),
                finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                seconds=round(seconds, 2),
            )
        return records, remaining

    def _reused(self) -> dict[Source, dict[str, Any]]:
        """Returns the records of files that were finished before, after completing those that lack only previews."""
        if self.shard.first:
            self.records.begin(self.results, alone=self.mine is None)
        # Processes agree on what is left to do before any of them adds to what is done.
        existing = self.shard.agree(
            {source: self.records.existing(source, self.results[source]) for source in self.files}
        )
        done = {source: one.record for source, one in existing.items() if one.record and not one.missing}
        if self.shard.first:
            changed = changed_settings(self.records.before, self.about)
            for line in reuse_lines(existing, self.folder, changed):
                print(printable(line))
            done |= {
                source: plot_preview_of_results(self.records, source, one, self.settings)
                for source, one in existing.items()
                if lacks_only_previews(one)
            }
        return self.shard.agree(done)

    def _comment(self) -> None:
        samples = self.settings.sample_count
        if not self.restorer.trained.has_std(samples):
            print("one sample of each image: there is no standard deviation, and none is written")
        if self.settings.entropy and samples < FEW_SAMPLES:
            print(f"the entropy of {samples} samples takes few values and tells little: make about 15")

    def _restored(self, waiting: list[Source]) -> dict[Source, dict[str, Any]]:
        """Restores the files of this process among those that are waiting, and returns their records."""
        infos = {source: _info(source, self.settings) for source in waiting}
        samples = self.settings.sample_count
        cost = {
            source: plane_cost(self.restorer, info, samples) if info else 0 for source, info in infos.items()
        }
        tiles = sum(cost[source] * info.plane_count for source, info in infos.items() if info)
        records = {}
        with Meter(tiles, self.counters[0], self.place, shown=self.shard.first) as meter:
            self.restorer.tiler.on_tiles, self.restorer.tiler.say = meter.count, meter.say
            for number in self.shard.of(len(waiting)):
                source = waiting[number]
                meter.name(printable(source.name))
                meter.expect(cost[source])
                records[source] = self._restored_file(source, infos[source], meter)
        return records

    def _restored_file(self, source: Source, info: ImageInfo | None, meter: Meter) -> dict[str, Any]:
        """Restores a file, and returns its record: that of an error if it fails and others remain."""

        def on_plane(plane: RestoredPlane) -> None:
            meter.plane_done()
            if self.settings.preview and info and plane.number == info.plane_count // 2:
                path = self.folder / preview_name(source)
                plot_preview(plane.low, plane.restored.mean, plane.restored.std, info.pixel_size, path)

        try:
            with tracked_results(source) as made:
                record = restore_file(
                    self.restorer, source, self.folder, self.settings, self.intervals, on_plane
                )
            if "std" in self.settings.maps:
                record["std_map"] = self.std_map
            for line in _remarks(source, record):
                meter.say(line)
            record = self.records.keep(made, record, self.results[source])
            self.counters[1, self.place] += 1
        except UserError as error:
            only = len(self.found.sources) == 1
            if self.settings.on_error == "stop" or only or isinstance(error, DiskFull):
                raise
            meter.say(f"skipped: {error}")
            record = {"file": source.name, "error": str(error)}
            if self.mine:
                self.records.keep_failure(source, record)
            return record
        return record


def _info(source: Source, settings: FileSettings) -> ImageInfo | None:
    """Returns the description of a file, or nothing if it cannot be read, which is reported when its turn comes."""
    try:
        with open_stack(source.path, settings.channels) as stack:
            return stack.info
    except UserError:
        return None


def _remarks(source: Source, record: Mapping[str, Any]) -> list[str]:
    """Returns remarks on a restored file for the screen."""
    lines = []
    if record["unlike_training"]:
        lines.append(f"{source.name} is unlike the training images: {'; '.join(record['unlike_training'])}")
    lines += [f"{source.name}: {sentence}" for sentence in record["residual"]]
    lines += [f"{source.name}: {note['text']}" for note in record["notes"]]
    if record["blank_planes"]:
        planes = counted(len(record["blank_planes"]), "plane is", "planes are")
        lines.append(f"{source.name}: {planes} constant and left unchanged")
    return lines


def _kept(counters: torch.Tensor, files: int, folder: Path) -> str:
    """Describes the results of an interrupted job; empty if it did not yet know which files are finished."""
    if not counters[2].any():
        return ""
    if is_distributed():  # each process knows of its own files only
        return f"files that are finished are kept in {folder}"
    count = int(counters[1].sum())
    if not count:
        return f"none of {counted(files, 'file')} is finished"
    return (
        f"{count} of {counted(files, 'file')} {'is' if count == 1 else 'are'} restored and kept in {folder}"
    )
