"""Restores TIFF files with a trained model.

Examples:
  ddpm-lightning restore checkpoint=runs/demo/checkpoints/best.ckpt input=noisy.tif output=restored
  ddpm-lightning restore checkpoint=CKPT input=FOLDER output=restored draws=15
  ddpm-lightning restore checkpoint=CKPT input=stack.tif output=restored channels=[1] sampler=ddim sampler.steps=10

Leaves in the output folder: NAME.tif of the same axes, type and pixel size; NAME_std.tif, the spread of the draws in
the units of the image; restore.json. A bad file among many is reported and skipped, and the exit code is then 3
(on_error=stop stops at it).
"""

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.progress import Progress

import ddpm_lightning
from ddpm_lightning.callbacks.status import write_json
from ddpm_lightning.cli import compose
from ddpm_lightning.errors import UserError
from ddpm_lightning.inference.files import Settings, check_names, find_files, restore_file
from ddpm_lightning.inference.restorer import Restorer

__all__ = ["restore_files", "run"]


def run(config: DictConfig) -> int:
    """Restores as the configuration says; returns 3 if some files failed."""
    records = restore_files(compose.plain(config))
    failed = [record for record in records if "error" in record]
    print(f"{len(records) - len(failed)} of {len(records)} files restored")
    return 3 if failed else 0


def restore_files(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Restores files and writes ``restore.json``.

    Args:
        settings: Configuration of the verb ``restore``.

    Returns:
        A record for each file; those that failed have an ``error``.

    Raises:
        UserError: If nothing can be restored at all, or a file fails under ``on_error=stop`` or is the only one.
    """
    if settings["on_error"] not in ("skip", "stop"):
        raise compose.unknown("on_error", str(settings["on_error"]), ("skip", "stop"))
    files, folder = find_files(settings["input"]), Path(settings["output"]).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f"output={folder}", "is a file", allowed="a folder, which is made if it does not exist"
        )
    check_names(files, folder)
    restorer = Restorer.load(
        settings["checkpoint"],
        settings["device"],
        settings["sampler"],
        tile=settings["tile"],
        overlap=settings["overlap"],
        seed=settings["seed"],
        bfloat16=settings["bfloat16"],
    )
    how = Settings(
        settings["draws"], settings["channels"], settings["std"] and not restorer.method.deterministic
    )
    records: list[dict[str, Any]] = []
    with Progress() as progress:
        task = progress.add_task("restoring", total=len(files))
        for path in files:
            progress.update(task, description=f"restoring {path.name}")
            try:
                records.append(restore_file(restorer, path, folder, how))
            except UserError as error:
                if settings["on_error"] == "stop" or len(files) == 1:
                    raise
                progress.console.print(f"skipped: {error}", style="yellow", markup=False, soft_wrap=True)
                records.append({"file": path.name, "error": str(error)})
            progress.advance(task)
            _write_record(folder, restorer, settings, records)
    return records


def _write_record(
    folder: Path, restorer: Restorer, settings: dict[str, Any], records: list[dict[str, Any]]
) -> None:
    trained = restorer.trained
    write_json(
        folder / "restore.json",
        {
            "model": {"file": str(trained.path), "sha256": trained.sha256, "names": trained.card["names"]},
            "preset": trained.method.preset,
            "evaluations_per_draw": trained.method.evaluations,
            "settings": {
                key: settings[key] for key in ("draws", "seed", "channels", "tile", "overlap", "bfloat16")
            },
            "version": ddpm_lightning.__version__,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "files": records,
        },
    )
