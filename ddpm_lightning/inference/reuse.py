"""Decides which files a repeated job must restore again, and reports why."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_lightning.inference.records import Existing, Records, tracked_results
from ddpm_lightning.inference.result_files import FileSettings, result_name
from ddpm_lightning.inference.sources import Source
from ddpm_lightning.io.notes import counted
from ddpm_lightning.io.stacks import open_stack, stem
from ddpm_lightning.metrics.residual_tests import standardised_residual

__all__ = ["lacks_only_previews", "plot_preview", "plot_preview_of_results", "preview_name", "reuse_lines"]


def preview_name(source: Source) -> str:
    """Returns the name of the preview of a file, relative to the folder of the results."""
    return f"preview/{stem(source.name)}.png"


def _is_preview(name: str) -> bool:
    return name.startswith("preview/")


def lacks_only_previews(existing: Existing) -> bool:
    """Says whether only previews are missing; they can be plotted from the results."""
    return existing.record is not None and bool(existing.missing) and all(map(_is_preview, existing.missing))


def reuse_lines(found: Mapping[Source, Existing], folder: Path, changed: Sequence[str]) -> list[str]:
    """Says which files are skipped or only completed, and why the others are restored again.

    Args:
        found: Existing results of each file.
        folder: Folder of the results.
        changed: Settings that differ from those of the last job, with both values.
    """
    by = {
        reason: [one for one in found.values() if one.reason == reason]
        for reason in ("", "settings", "input")
    }
    lines = _finished(by[""], len(found), folder) if by[""] else []
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


def _finished(finished: Sequence[Existing], count: int, folder: Path) -> list[str]:
    """Describes files that were restored before with the same settings, of this many files."""
    lines = []
    if complete := sum(not one.missing for one in finished):
        lines.append(f"{complete} of {counted(count, 'file was', 'files were')} finished before")
    if again := [one for one in finished if one.missing and not lacks_only_previews(one)]:
        names = [name for name in again[0].missing if not _is_preview(name)]
        missing = f"{names[0]} and {len(names) - 1} more are" if len(names) > 1 else f"{names[0]} is"
        lines.append(
            f"{_files(again)} restored before, but {missing} missing: these files are restored again, because their "
            "samples were not stored; the same seed gives the same results"
        )
    if previews := [one for one in finished if lacks_only_previews(one)]:
        lines.append(
            f"{_files(previews)} restored before: the previews are plotted from the results in {folder}"
        )
    return lines


def _files(found: Sequence[Existing]) -> str:
    return counted(len(found), "file was", "files were")


def plot_preview(
    low: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray | None,
    pixel_size: Sequence[float] | None,
    path: Path,
) -> None:
    """Plots the low image, the restored one, their difference, and the standard deviation if there is one.

    Args:
        low: The plane as recorded, with shape (H, W).
        mean: Its restoration with the same shape.
        std: Standard deviation of its samples with the same shape, or ``None``.
        pixel_size: Size of a pixel in µm as (y, x), or ``None``.
        path: File to write (PNG).
    """
    from ddpm_lightning.inference.panels import panel  # imported here because matplotlib is slow to load

    images = {"low": low, "restored" if std is None else "average": mean}
    if (residual := standardised_residual(low, mean)) is not None:
        images["residual"] = residual
    if std is not None:
        images["std"] = std
    panel([images], path, pixel_size=pixel_size[1] if pixel_size else None, title=path.stem)


def _plane(path: Path, number: int) -> np.ndarray:
    with open_stack(path) as stack:
        return np.asarray(stack.plane(number), dtype=np.float32)


def plot_preview_of_results(
    records: Records, source: Source, existing: Existing, settings: FileSettings
) -> dict[str, Any]:
    """Plots the preview of a file from its results.

    Args:
        records: Records of the folder of the results.
        source: The file.
        existing: Its existing results, which lack only the preview.
        settings: How the file was restored.

    Returns:
        The record of the file.
    """
    if existing.record is None:
        raise ValueError(f"{source.name} has no results")
    (name,) = existing.missing
    std = result_name(source, "std")
    with tracked_results(source) as made:
        with open_stack(source.path, settings.channels) as stack:
            number, pixel_size = len(stack) // 2, stack.info.pixel_size
            low = stack.plane(number)
        mean = _plane(records.folder / result_name(source), number)
        has_std = std in existing.record["results"]
        plot_preview(
            low,
            mean,
            _plane(records.folder / std, number) if has_std else None,
            pixel_size,
            records.folder / name,
        )
    return records.keep(made, existing.record, [name])
