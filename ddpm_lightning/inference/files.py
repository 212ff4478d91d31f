"""Which files are restored, and what their results are called.

Beside each ``NAME.tif`` stand ``NAME_std.tif``, the spread of the draws in the units of the image (float32), and what
else was asked for: ``NAME_entropy.tif``, ``NAME_interval_low.tif``, ``NAME_interval_high.tif``, ``NAME_draw_01.tif``.
"""

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_lightning.data.stacks import SUFFIXES, is_image, is_zarr
from ddpm_lightning.errors import UserError
from ddpm_lightning.metrics.conformal import Conformal

__all__ = ["Settings", "check_names", "find_files", "result_name", "results_of", "stem"]

#: Images that microscopists export, and that lose bit depth, axes or pixel size.
OTHER_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


@dataclass(frozen=True)
class Settings:
    """How files are restored.

    Attributes:
        draws: Draws of each plane.
        channels: Channels to restore, by number or name; all by default.
        std: Whether the spread is written too.
        entropy: Whether the entropy of the draws is written too.
        intervals: Calibration of the intervals that are written too, or ``None``.
        single: Whether every draw is written, in the type of the image.
    """

    draws: int = 15
    channels: Any = None
    std: bool = True
    entropy: bool = False
    intervals: Conformal | None = None
    single: bool = False

    @property
    def maps(self) -> list[str]:
        """Names of the float32 maps that are written beside the image."""
        wanted = {"std": self.std, "entropy": self.entropy}
        wanted |= dict.fromkeys(("interval_low", "interval_high"), self.intervals is not None)
        return [name for name, there in wanted.items() if there]


def find_files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Returns the files that a path, a pattern, or a list of either means, in order, each once.

    A folder stands for the images in it, a pattern such as ``day1/*.tif`` for what it matches.

    Raises:
        UserError: If there are none.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    if not sources:
        raise UserError("input", "is an empty list", allowed="files, folders or patterns such as day1/*.tif")
    return list(dict.fromkeys(path for one in sources for path in _found(one)))


def _found(source: str | Path) -> Iterator[Path]:
    path = Path(source).expanduser()
    if path.is_file() or is_zarr(path):
        yield path
        return
    allowed = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if is_image(file)]
        if not files:
            others = sorted({file.suffix for file in path.iterdir() if file.suffix.lower() in OTHER_IMAGES})
            found = f"holds no TIFF files, but {' and '.join(others)}" if others else "holds no TIFF files"
            remedy = "save the images as TIFF; in ImageJ: File > Save As > Tiff" if others else ""
            raise UserError(f"input={source}", found, allowed, remedy)
    else:
        if not any(letter in str(source) for letter in "*?["):
            raise UserError(f"input={source}", "no such file or folder")
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if is_image(Path(name))]
        if not files:
            raise UserError(f"input={source}", "matches no TIFF files", allowed=allowed)
    yield from files


def stem(source: Path) -> str:
    """Returns the name of a file without its endings: ``a.ome.tif`` gives ``a``."""
    name = source.name[: -len(source.suffix)] if source.suffix else source.name
    return name[: -len(".ome")] if name.lower().endswith(".ome") else name


def result_name(source: Path, part: str = "") -> str:
    """Returns the name of a result of a file: ``a.ome.tif`` with part ``std`` gives ``a_std.ome.tif``."""
    return f"{stem(source)}_{part}{source.name[len(stem(source)) :]}" if part else source.name


def results_of(source: Path, settings: Settings) -> list[str]:
    """Returns the names of all results of a file."""
    single = [f"draw_{number + 1:02d}" for number in range(settings.draws)] if settings.single else []
    return [result_name(source, part) for part in ("", *settings.maps, *single)]


def check_names(results: Mapping[Path, Sequence[str]], folder: Path) -> None:
    """Raises where results would meet their sources or each other.

    Args:
        results: Names of the results of each file, relative to the folder.
        folder: Folder of the results.
    """
    taken: dict[str, Path] = {}
    for path, names in results.items():
        if path.resolve().parent == folder.resolve():
            raise UserError(
                f"output={folder}", "is the folder of the input", remedy="choose another output=FOLDER"
            )
        for name in names:
            # Some file systems do not tell a.tif from A.tif.
            if name.lower() in taken:
                raise UserError(
                    path,
                    f"and {taken[name.lower()]} would both write {name}",
                    remedy="rename one of them, or restore them to different folders",
                )
            taken[name.lower()] = path
