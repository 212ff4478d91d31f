"""The base of the four published sets: a card with facts, the preparation, and the prepared folder of pairs."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.pairs import PairSource
from ddpm_lightning.datasets.folder import FolderPairs
from ddpm_lightning.datasets.preparation.archive import is_archive, unpack
from ddpm_lightning.datasets.preparation.build import Preparation, build
from ddpm_lightning.datasets.preparation.download import Remote, fetch
from ddpm_lightning.datasets.preparation.layouts import FoundPair, Layout, find_pairs
from ddpm_lightning.datasets.preparation.manifest import MANIFEST, Manifest, Origin, read_manifest
from ddpm_lightning.simulation.degraded_pairs import Degradations, degraded
from ddpm_lightning.utils.atomic import remove_partials, sha256
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import command_of, expanded
from ddpm_lightning.utils.settings import Text
from ddpm_lightning.utils.task_progress import Report

__all__ = ["RELEASE_SPLITS", "ZENODO", "Card", "PublishedData", "zenodo_archive"]

PAPER = (
    "Denoising diffusion models for high-resolution microscopy image restoration (Osuna-Vargas et al., WACV 2025), "
    "https://arxiv.org/abs/2409.12078"
)
RECORD = "14215838"
ZENODO = f"Zenodo record {RECORD} (https://zenodo.org/records/{RECORD})"
#: Folders of splits in the layout that the code of the paper reads.
RELEASE_SPLITS = {"train": "train", "validate": "val", "val": "val", "test": "test"}

#: Files that may be archives inside an archive.
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".rar"}


@dataclass(frozen=True)
class Card:
    """Facts about a published set.

    Attributes:
        name: Name in configurations and results.
        title: Description in one sentence.
        modality: Microscopes of the low and the high image.
        specimen: Specimen and label.
        pixel_size: Size of a pixel in µm, or ``None`` if unknown.
        sizes: Number of pairs of each split in the paper.
        source: Place of publication.
        citation: What to cite.
        licence: Terms of use, as far as known.
        unknown: Facts that could not be found.
        remote: The published file.
        layouts: Layouts in which it is published.
    """

    name: str
    title: str
    modality: str
    specimen: str
    pixel_size: float | None
    sizes: Mapping[str, int]
    source: str
    citation: str = PAPER
    licence: str = "not found in the material that could be reached; see the record"
    unknown: Sequence[str] = ()
    remote: Remote = Remote("")
    layouts: Sequence[Layout] = field(default_factory=tuple)

    @property
    def facts(self) -> str:
        """The card as a Markdown list."""
        size = "not known" if self.pixel_size is None else f"{self.pixel_size * 1000:g} nm"
        sizes = ", ".join(f"{count} {split}" for split, count in self.sizes.items())
        lines = [
            self.title,
            "",
            f"- modality: {self.modality}",
            f"- specimen: {self.specimen}",
            f"- pixel size: {size}",
        ]
        lines += [f"- pairs in the paper: {sizes}", f"- source: {self.source}", f"- cite: {self.citation}"]
        lines += [f"- licence: {self.licence}", *(f"- not known: {text}" for text in self.unknown)]
        return "\n".join(lines)


def zenodo_archive(name: str) -> Remote:
    """Returns an archive of the paper's Zenodo record, given its name without the suffix."""
    file = f"{name}.rar"
    page = f"https://zenodo.org/records/{RECORD}"
    content = f"https://zenodo.org/api/records/{RECORD}/files/{file}/content"
    return Remote(file, (f"{page}/files/{file}?download=1", content), page=f"{page}, the file {file}")


class PublishedData(PairDataModule):
    """A published set, prepared once by ``ddpm-lightning prepare data=NAME``.

    Args:
        root: Folder that the preparation fills.
        preparation: How images become pairs.
        archive: File or folder that was downloaded manually.
        mirrors: Addresses of folders with the published files, tried first.
        degradations: Further degradations of the low images, in order, or by name.
        settings: Settings of :class:`PairDataModule`.
    """

    card: ClassVar[Card]

    def __init__(
        self,
        root: Text | Path,
        preparation: Preparation,
        archive: Text | Path | None = None,
        mirrors: Sequence[str] = (),
        degradations: Degradations = (),
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.root, self.preparation = expanded(root), preparation
        self.archive = None if archive is None else expanded(archive)
        listed = isinstance(mirrors, Sequence) and not isinstance(mirrors, str)
        if not listed or not all(isinstance(mirror, str) for mirror in mirrors):
            raise UserError("data.mirrors", f"is {mirrors!r}", allowed="a list of addresses: ['https://…/']")
        self.mirrors, self.degradations = mirrors, degradations
        self.name = self.card.name

    @property
    def facts(self) -> str:
        """Facts about the set, as Markdown."""
        return self.card.facts

    def source(self, split: str) -> PairSource:
        """Returns the pairs of a split.

        Raises:
            UserError: If the set was not prepared.
        """
        self.manifest()
        return degraded(FolderPairs(self.root, split, self.card.pixel_size), self.degradations, split)

    def manifest(self) -> Manifest:
        """Returns the manifest of the prepared set.

        Raises:
            UserError: If it was not prepared.
        """
        manifest = read_manifest(self.root)
        if manifest is None:
            raise UserError(
                f"data set {self.name}",
                f"is not prepared: there is no {self.root / MANIFEST}",
                remedy=f"run `{command_of('prepare', data=self.name)}` once, or set data.root to where it is",
            )
        return manifest

    def prepare(self, on_error: str = "skip", progress: Report | None = None) -> Manifest:
        """Downloads, unpacks, registers, crops and splits; finished steps are not repeated.

        Args:
            on_error: Whether to ``skip`` pairs that cannot be used, or ``stop`` at the first.
            progress: Called with the progress of each step.

        Returns:
            The manifest.

        Raises:
            UserError: If the set cannot be obtained, or its files cannot be used.
        """
        made = [self.root / "source", *(p for p in (self.root, *self.root.parents) if not p.exists())]
        try:
            return self._prepare(on_error, progress)
        finally:
            # Also if an archive was rejected; folders that contain a download are not empty, so they are kept.
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()

    def _prepare(self, on_error: str, progress: Report | None) -> Manifest:
        source = self.root / "source"
        remove_partials([self.root, source, *(path for path in source.rglob("*") if path.is_dir())])
        settings = json.loads(json.dumps(asdict(self.preparation)))
        done = read_manifest(self.root)
        done = done if done is not None and done["settings"] == settings else None
        if done and self.archive is None:
            return done
        if self.archive is not None and self.archive.is_dir():
            folder, name, digest = self.archive, self.archive.resolve().name, None
        else:
            archive = self._archive(progress)
            name, digest = archive.name, sha256(archive)
            if done and done["source"]["sha256"] == digest:
                return done
            folder = self._unpacked(archive, digest)
        found = find_pairs(folder, self.card.layouts, self.preparation.field_pattern)
        digest = digest or _digest(found, folder)
        if done and done["source"]["sha256"] == digest:
            return done
        origin = Origin(
            data=self.name,
            source={"name": name, "sha256": digest},
            pixel_size=self.card.pixel_size,
            published=dict(self.card.sizes),
        )
        manifest = build(self.root, folder, found, self.preparation, origin, on_error, progress)
        for unpacked in (self.root / "source").glob("*unpacked-*"):
            shutil.rmtree(unpacked)
        return manifest

    def _archive(self, progress: Report | None) -> Path:
        """Returns the archive: that of the user, or the downloaded one."""
        if self.archive is not None:
            if not self.archive.is_file():
                raise UserError(
                    f"data.archive={self.archive}", "does not exist", allowed="a file or a folder"
                )
            return self.archive
        remote = self.card.remote
        if not remote.urls and not self.mirrors:
            raise UserError(
                f"data set {self.name}",
                "cannot be downloaded automatically",
                remedy=f"download it manually: {remote.page}. Then pass data.archive=FILE_OR_FOLDER",
            )
        return fetch(remote, self.root / "source", self.mirrors, progress)

    def _unpacked(self, archive: Path, digest: str) -> Path:
        """Returns the folder of the unpacked archive; archives inside it are unpacked beside themselves."""
        folder = self.root / "source" / f"unpacked-{digest[:12]}"
        if not folder.is_dir():
            unpack(archive, folder)
        for path in sorted(folder.rglob("*.*")):
            inner = path.with_name(f"{path.name}-unpacked")
            if path.suffix.lower() in ARCHIVES and path.is_file() and is_archive(path) and not inner.is_dir():
                unpack(path, inner)
        return folder


def _digest(found: Sequence[FoundPair], folder: Path) -> str:
    """Returns a hash of the names and contents of the files."""
    files = sorted({path for pair in found for path in (pair.low, pair.high)})
    lines = (f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
