"""What a second ``restore`` into the same folder does again, and how it reports this."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddpm_lightning.inference.files import result_name
from ddpm_lightning.inference.records import Existing, Records, tracked_results
from ddpm_lightning.inference.sources import Source
from ddpm_lightning.io.notes import counted
from ddpm_lightning.io.stacks import open_stack
from ddpm_lightning.utils.distributed import is_distributed

__all__ = ["plot_preview", "in_words", "kept_in_words", "previews_alone", "write_preview"]


def in_words(standing: Mapping[Source, Existing], folder: Path, changed: Sequence[str]) -> list[str]:
    """Says which files are skipped or only completed, and why the others are restored again.

    Args:
        standing: Existing results of each file.
        folder: Folder of the results.
        changed: Settings that differ from those of the last job, with both values.
    """
    by = {
        reason: [one for one in standing.values() if one.reason == reason]
        for reason in ("", "settings", "input")
    }
    lines = []
    if finished := by[""]:
        if whole := sum(not one.missing for one in finished):
            files = counted(len(standing), "file was", "files were")
            lines.append(f"{whole} of {files} finished before")
        if again := [one for one in finished if one.missing and not previews_alone(one)]:
            names = [name for name in again[0].missing if not _is_preview(name)]
            more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
            lines.append(
                f"{_files(again)} restored before, but {names[0]}{more} "
                f"{'are' if len(names) > 1 else 'is'} not there: these files are restored again, because their samples "
                "were not stored; the same seed gives the same results"
            )
        if drawn := [one for one in finished if previews_alone(one)]:
            lines.append(
                f"{_files(drawn)} restored before: the previews are drawn from the results in {folder}"
            )
    if again := by["settings"]:
        how = f" ({', '.join(changed)})" if changed else ""
        lines.append(
            f"{_files(again)} restored before with other settings{how}: restored again, and the earlier results "
            "are replaced; choose another output=FOLDER to keep both"
        )
        if older := [name for one in again for name in one.older]:
            more = f" and {len(older) - 1} more" if len(older) > 1 else ""
            lines.append(
                f"left unchanged in {folder}: {older[0]}{more}, made with the other settings "
                "(listed in restore.json under earlier)"
            )
    if again := by["input"]:
        lines.append(f"{_files(again)} restored before and changed since: restored again")
    return lines


def kept_in_words(counters: torch.Tensor, files: int, folder: Path) -> str:
    """Says what a job that is stopped leaves; nothing before it has looked at what is there.

    Args:
        counters: By process: tiles, finished files, and whether those that were finished before are counted.
        files: Number of files.
        folder: Folder of the results.
    """
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


def previews_alone(standing: Existing) -> bool:
    """Says whether only previews are missing, which can be drawn from the results."""
    return standing.record is not None and bool(standing.missing) and all(map(_is_preview, standing.missing))


def plot_preview(records: Records, source: Source, standing: Existing, channels: Any) -> dict[str, Any]:
    """Draws the preview of a file from its results, and returns its record.

    Args:
        records: Records of the folder of the results.
        source: The file.
        standing: Its existing results.
        channels: Channels that were restored.
    """
    (name,) = standing.missing
    results, std = standing.record["results"], result_name(source, "std")
    with tracked_results(source) as made:
        with open_stack(source.path, channels) as stack:
            number, pixel_size = len(stack) // 2, stack.info.pixel_size
            images = {"low": stack.plane(number)}
        restored = (
            {"average": result_name(source), "std": std}
            if std in results
            else {"restored": result_name(source)}
        )
        for title, result in restored.items():
            with open_stack(records.folder / result) as stack:
                images[title] = np.asarray(stack.plane(number), dtype=np.float32)
        write_preview(images, pixel_size, records.folder / name)
    return records.keep(made, standing.record, [name])


def write_preview(images: dict[str, np.ndarray], pixel_size: Sequence[float] | None, path: Path) -> None:
    """Writes a preview: the low image, the restored one, and the standard deviation if there is one."""
    from ddpm_lightning.reporting.panels import panel  # imported here because matplotlib is slow to load

    panel([images], path, pixel_size=pixel_size[1] if pixel_size else None, title=path.stem)


def _is_preview(name: str) -> bool:
    return name.startswith("preview/")


def _files(standing: Sequence[Existing]) -> str:
    return counted(len(standing), "file was", "files were")
