"""What the results of a file are called.

Beside each ``NAME.tif`` stand ``NAME_std.tif``, the spread of the samples in the units of the image (float32) where
there are several, and what else was asked for: ``NAME_entropy.tif``, ``NAME_interval_low.tif``,
``NAME_interval_high.tif``, ``NAME_sample_01.tif``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_lightning.inference.sources import Source
from ddpm_lightning.io.stacks import stem
from ddpm_lightning.metrics.conformal import Conformal
from ddpm_lightning.utils.errors import UserError

__all__ = ["Settings", "check_names", "result_name", "results_of"]


@dataclass(frozen=True)
class Settings:
    """How files are restored.

    Attributes:
        samples: Samples of each plane.
        channels: Channels to restore, by number or name; all by default.
        std: Whether the spread is written too; a single sample has none.
        entropy: Whether the entropy of the samples is written too; a single sample has none.
        intervals: Calibration of the intervals that are written too, or ``None``.
        single: Whether every sample is written, in the type of the image.
        dtype: Type of the pixels of the image and of single samples: ``same`` as the source, or the name of a type.

    Raises:
        UserError: If intervals are asked for of a single sample.
    """

    samples: int = 15
    channels: Any = None
    std: bool = True
    entropy: bool = False
    intervals: Conformal | None = None
    single: bool = False
    dtype: str = "same"

    def __post_init__(self) -> None:
        if self.intervals is not None and self.samples < 2:
            raise UserError("intervals", "need at least two samples, and one is made of each image")

    @property
    def maps(self) -> list[str]:
        """Names of the float32 maps that are written beside the image."""
        several = self.samples > 1
        wanted = {"std": self.std and several, "entropy": self.entropy and several}
        wanted |= dict.fromkeys(("interval_low", "interval_high"), self.intervals is not None)
        return [name for name, there in wanted.items() if there]


def result_name(source: Path | Source, part: str = "") -> str:
    """Returns the name of a result of a file: ``a.ome.tif`` with part ``std`` gives ``a_std.ome.tif``."""
    name = stem(source.name)
    return f"{name}_{part}{source.name[len(name) :]}" if part else source.name


def results_of(source: Path | Source, settings: Settings) -> list[str]:
    """Returns the names of all results of a file, relative to the folder of the results."""
    single = [f"sample_{number + 1:02d}" for number in range(settings.samples)] if settings.single else []
    return [result_name(source, part) for part in ("", *settings.maps, *single)]


def check_names(results: Mapping[Source, Sequence[str]], folder: Path) -> None:
    """Raises where results would meet their sources or each other.

    Args:
        results: Names of the results of each file, relative to the folder.
        folder: Folder of the results.
    """
    taken: dict[str, Path] = {}
    for source, names in results.items():
        store = source.store.resolve()
        if store.parent == (folder / source.name).resolve().parent or folder.resolve().is_relative_to(store):
            raise UserError(
                f"output={folder}", "is the folder of the input", remedy="choose another output=FOLDER"
            )
        for name in names:
            # Some file systems do not tell a.tif from A.tif.
            if name.lower() in taken:
                raise UserError(
                    source.path,
                    f"and {taken[name.lower()]} would both write {name}",
                    remedy="rename one of them, or restore them to different folders",
                )
            taken[name.lower()] = source.path
