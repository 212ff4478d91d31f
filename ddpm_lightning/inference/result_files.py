"""Names of the files that are written for an image.

For each ``NAME.tif`` there is ``NAME_std.tif``, the standard deviation in the units of the image (float32), scaled to
the size of the error if the model is calibrated; a single sample has none, unless it is that of a network. On request
there are also ``NAME_entropy.tif``, ``NAME_interval_low.tif``, ``NAME_interval_high.tif``, ``NAME_sample_01.tif`` and
so on, and for stacks ``NAME_max.tif``, ``NAME_max_std.tif`` and so on (``projections``), and ``NAME_profile.csv``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from ddpm_lightning.checkpoints.load import Trained
from ddpm_lightning.inference.projections import PROFILE, Projection
from ddpm_lightning.inference.sources import Source
from ddpm_lightning.io.formats import OutputFormat
from ddpm_lightning.io.stacks import stem
from ddpm_lightning.readouts.readout import ReadoutNames
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count, Settings, Text

__all__ = ["BY_NETWORKS", "FileSettings", "check_names", "result_name", "results_of"]


BY_NETWORKS = (
    "mean and standard deviation are estimated by networks; samples are made for single=true, entropy=true, "
    "projections and readout"
)


class FileSettings(Settings):
    """What is written for each image.

    Attributes:
        samples: Samples of each plane; ``None`` for those of the model, see :meth:`for_model`.
        channels: Channels to restore, by index from 0 or by name; by default all.
        dtype: Data type of ``NAME.tif`` and of single samples: ``same`` as the source, or the name of a type.
        format: Format of the results: ``same`` as the source, which for files of microscopes is OME-TIFF, or
            another one; ``ome-zarr`` is version 0.5.
        std: Whether the standard deviation is written; a single sample has none, unless it is that of a network.
        entropy: Whether the entropy of the samples is written; a single sample has none.
        intervals: Whether calibrated intervals are written.
        single: Whether every single sample is written.
        projections: Projections of stacks that are written, with their standard deviations over the samples
            (:mod:`ddpm_lightning.inference.projections`).
        readout: What is measured in each plane (:mod:`ddpm_lightning.readouts.readout`).
        control: Whether images without structure, with the noise of the middle plane, are restored as well, to count
            what is invented (:mod:`ddpm_lightning.inference.control`).
    """

    samples: Count | None = None
    channels: int | Text | list[int | Text] | None = None
    dtype: Literal["same", "float32", "uint16"] = "same"
    format: OutputFormat = "same"
    std: bool = True
    entropy: bool = False
    intervals: bool = False
    single: bool = False
    projections: list[Projection] = []  # noqa: RUF012  (pydantic copies it)
    readout: ReadoutNames = []  # noqa: RUF012
    control: bool = False

    def for_model(self, trained: Trained, averages_planes: bool = False) -> Self:
        """Returns the settings with the number of samples that a model makes.

        Args:
            trained: The model.
            averages_planes: Whether neighbouring planes are averaged, which needs samples.

        Raises:
            UserError: If something is requested that needs several samples, and there is only one.
        """
        requested = self.entropy or bool(self.single or self.projections or self.readout) or averages_planes
        samples = trained.sample_count(self.samples, requested)
        if (self.entropy and samples == 1) or (self.intervals and not trained.has_std(samples)):
            raise UserError(
                f"{'entropy' if self.entropy else 'intervals'}=true",
                "needs several different samples, but only one is computed for each image",
                remedy="leave it out, or set samples=15 with a probabilistic model",
            )
        return self.model_copy(update={"samples": samples, "std": self.std and trained.has_std(samples)})

    @property
    def sample_count(self) -> int:
        """Samples of each plane; 0 if all that is written is that of networks."""
        if self.samples is None:
            raise ValueError("the number of samples is not known yet; call for_model")
        return self.samples

    @property
    def maps(self) -> list[str]:
        """Names of the float32 maps that are written beside the image."""
        wanted = {
            "std": self.std,
            "entropy": self.entropy,
            "interval_low": self.intervals,
            "interval_high": self.intervals,
        }
        return [name for name, requested in wanted.items() if requested]

    @property
    def single_samples(self) -> list[str]:
        """Names of the single samples that are written beside the image."""
        return [f"sample_{number + 1:02d}" for number in range(self.sample_count * self.single)]

    @property
    def projected(self) -> list[str]:
        """Names of the projections that are written beside the image, except the profile."""
        deviations = ["", "_std"] if self.sample_count > 1 else [""]
        kinds = [kind for kind in dict.fromkeys(self.projections) if kind != PROFILE]
        return [kind + deviation for kind in kinds for deviation in deviations]


def result_name(source: Path | Source, part: str = "") -> str:
    """Returns the name of a result of a file: ``a.ome.tif`` with part ``std`` gives ``a_std.ome.tif``."""
    name = stem(source.name)
    if part == PROFILE:
        return f"{name}_{part}.csv"
    return f"{name}_{part}{source.name[len(name) :]}" if part else source.name


def results_of(source: Path | Source, settings: FileSettings) -> list[str]:
    """Returns the names of all results of a file, relative to the folder of the results."""
    parts = ["", *settings.maps, *settings.single_samples, *settings.projected]
    return [result_name(source, part) for part in [*parts, *[PROFILE] * (PROFILE in settings.projections)]]


def check_names(results: Mapping[Source, Sequence[str]], folder: Path) -> None:
    """Refuses results that would overwrite their sources or each other.

    Args:
        results: Names of the results of each file, relative to the folder.
        folder: Folder of the results.

    Raises:
        UserError: If results would overwrite anything.
    """
    taken: dict[str, Path] = {}
    for source, names in results.items():
        store = source.store.resolve()
        if store.parent == (folder / source.name).resolve().parent or folder.resolve().is_relative_to(store):
            raise UserError(
                f"output={folder}", "is the folder of the input", remedy="choose another output=FOLDER"
            )
        for name in names:
            # Some file systems do not distinguish a.tif from A.tif.
            if name.lower() in taken:
                raise UserError(
                    source.path,
                    f"and {taken[name.lower()]} would both write {name}",
                    remedy="rename one of them, or restore them to different folders",
                )
            taken[name.lower()] = source.path
