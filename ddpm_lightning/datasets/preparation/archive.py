"""Unpacks untrusted archives: nothing outside the folder, no links, no archive bombs, all or nothing.

Supported are ZIP, TAR (plain or compressed by gzip, bzip2 or xz), GZIP of a single file, and RAR, recognised by their
first bytes. Python has no reader for RAR: the package ``unrar2-cffi`` is used, or else the command ``bsdtar`` (package
``libarchive-tools``), which converts the archive to a TAR stream.
"""

import gzip
import io
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from ddpm_lightning.datasets.preparation.files import disk_errors, require_space
from ddpm_lightning.utils.atomic import AtomicWriter
from ddpm_lightning.utils.errors import UserError, is_out_of_memory, out_of_memory

__all__ = ["Limits", "is_archive", "unpack"]

READABLE = "ZIP, TAR, TAR.GZ, GZ or RAR"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits beyond which an archive is refused.

    Attributes:
        ratio: Bytes unpacked for each byte of the archive.
        always: Bytes that are allowed at any ratio.
        members: Number of files.
    """

    ratio: float = 200.0
    always: int = 10**9
    members: int = 1_000_000


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass
class _Member:
    """A file in an archive: its name, its content, why it is refused, and the size that the archive states."""

    name: str
    content: "_Readable"
    refused: str = ""
    size: int = 0


def is_archive(path: Path) -> bool:
    """Says whether the first bytes of a file are those of an archive."""
    return _kind(path) is not None


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> None:
    """Unpacks an archive into a new folder, which appears only once everything is unpacked.

    Raises:
        UserError: If the archive is damaged, refers to files outside the folder, contains links, is an archive bomb, or
            needs a tool that is not installed.
    """
    limits = limits or Limits()
    writer = AtomicWriter(folder, folder=True)
    try:
        with disk_errors(folder):
            partial = writer.begin()
        _extract(archive, partial, limits)
        with disk_errors(folder):
            writer.commit()
    finally:
        writer.discard()


def _extract(archive: Path, folder: Path, limits: Limits) -> None:
    size = archive.stat().st_size
    require_space(folder, size, "the content of the archive")
    most = max(limits.always, int(limits.ratio * size))
    written = count = 0
    with _damage_named(archive):
        for member in _members(archive):
            target = folder / _safe(archive, member)
            count += 1
            if target.exists():
                raise UserError(
                    archive, f"contains {member.name!r} twice", remedy="unpack it manually and inspect it"
                )
            with disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                file = target.open("wb")
            with file:
                _refuse_bomb(archive, written + member.size, count, most, limits)
                while chunk := member.content.read(CHUNK):
                    written += len(chunk)
                    _refuse_bomb(archive, written, count, most, limits)
                    with disk_errors(target):
                        file.write(chunk)
    if not count:
        raise UserError(archive, "contains no files", remedy="download it again")


def _refuse_bomb(archive: Path, written: int, count: int, most: int, limits: Limits) -> None:
    if written > most or count > limits.members:
        raise UserError(
            archive,
            f"an archive bomb: unpacks to {written / 1e6:.0f} MB or more, in {count} files or more",
            allowed=f"{most / 1e6:.0f} MB for an archive of its size, and {limits.members} files",
            remedy="do not use it; if you trust it, unpack it manually and pass data.archive=FOLDER",
        )


def _safe(archive: Path, member: _Member) -> PurePosixPath:
    """Returns the name of a member if it is a regular file inside the folder."""
    name = PurePosixPath(member.name.replace("\\", "/"))
    found = member.refused
    if not _is_text(member.name):
        found = "a name that is not text"
    elif not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        found = "a path that leads outside the folder"
    if found:
        raise UserError(
            archive,
            f"contains {member.name!r}: {found}",
            allowed="regular files inside the folder",
            remedy="nothing was unpacked; get the archive from its publisher",
        )
    return name


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def _kind(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"Rar!\x1a\x07"):
        return "rar"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head[257:262] == b"ustar" or head.startswith((b"BZh", b"\xfd7zXZ\x00")):
        return "tar"
    if head.startswith(b"\x1f\x8b"):
        return "tar" if _tar_inside(path) else "gz"
    return None


def _tar_inside(path: Path) -> bool:
    try:
        with gzip.open(path) as file:
            return file.read(512)[257:262] == b"ustar"
    except (OSError, EOFError, zlib.error):
        return path.name.endswith((".tar.gz", ".tgz"))


def _members(archive: Path) -> Iterator[_Member]:
    kind = _kind(archive)
    if kind == "zip":
        yield from _zip_members(archive)
    elif kind == "tar":
        with tarfile.open(archive) as tar:
            yield from _tar_members(tar)
    elif kind == "gz":
        with gzip.open(archive) as file:
            yield _Member(archive.stem, file)
    elif kind == "rar":
        yield from _rar_members(archive)
    else:
        raise UserError(archive, "is not a supported archive", READABLE, "unpack it and pass the folder")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if info.is_dir():
                continue
            refused = "a link" if stat.S_ISLNK(info.external_attr >> 16) else ""
            refused = refused or ("encrypted" if info.flag_bits & 1 else "")
            if refused:
                yield _Member(info.filename, io.BytesIO(), refused)
            with file.open(info) as content:
                # `zipfile` silently turns "../a" into "a"; the name stored in the archive is checked.
                yield _Member(info.orig_filename, content)


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        if info.isdir():
            continue
        if not info.isfile():
            yield _Member(info.name, io.BytesIO(), "a link" if info.islnk() or info.issym() else "a device")
        content = tar.extractfile(info)
        if content is not None:
            with content:
                yield _Member(info.name, content)


def _rar_members(archive: Path) -> Iterator[_Member]:
    try:
        unrarlib: Any = import_module("unrar.cffi.unrarlib")
    except ImportError:
        yield from _rar_by_bsdtar(archive)
        return
    try:
        with unrarlib.RarArchive.open_for_processing(str(archive)) as rar:
            for header in rar.iterate_headers():
                if header.Flags & unrarlib.FLAGS_RHDF_DIRECTORY:
                    header.skip()
                    continue
                raw = header.headerDataEx
                if raw.RedirType or stat.S_ISLNK(raw.FileAttr):
                    yield _Member(header.FileNameW, io.BytesIO(), refused="a link")
                yield _Member(
                    header.FileNameW, _RarContent(header), size=(raw.UnpSizeHigh << 32) + raw.UnpSize
                )
    except unrarlib.BadRarFile as error:
        raise UserError(archive, f"cannot be read as RAR ({error})", remedy="download it again") from error


class _RarContent:
    """The content of a member, unpacked when it is first read, after its size was checked."""

    def __init__(self, header: Any) -> None:
        self.header = header
        self.content: IO[bytes] | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Returns the next bytes."""
        if self.content is None:
            self.content = tempfile.SpooledTemporaryFile(max_size=1 << 26)
            try:
                self.header.test(self.content.write)
            except Exception as error:  # the exceptions of an optional package
                if is_out_of_memory(error):
                    raise out_of_memory(self.header, error) from error
                raise OSError(str(error)) from error
            self.content.seek(0)
        return self.content.read(size)


def _rar_by_bsdtar(archive: Path) -> Iterator[_Member]:
    tool = shutil.which("bsdtar")
    if tool is None:
        raise UserError(
            archive,
            "is a RAR archive, and no tool that reads RAR is installed",
            allowed="the Python package unrar2-cffi, or the command bsdtar",
            remedy="pip install unrar2-cffi; or install libarchive-tools; or unpack it elsewhere and pass "
            "data.archive=FOLDER",
        )
    command = [tool, "-cf", "-", f"@{archive.resolve()}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                yield from _tar_members(tar)
            problem = process.stderr.read().decode(errors="replace").strip()
        finally:
            process.kill()
    if problem:
        raise UserError(archive, f"bsdtar says: {problem.splitlines()[0]}", remedy="pip install unrar2-cffi")


@contextmanager
def _damage_named(archive: Path) -> Iterator[None]:
    """Turns the errors of a damaged archive into one message."""
    try:
        yield
    except UserError:
        raise
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        zlib.error,
        NotImplementedError,
        OSError,
    ) as error:
        if is_out_of_memory(error):
            raise out_of_memory(archive, error) from error
        raise UserError(
            archive,
            f"is damaged or incomplete ({type(error).__name__}: {error})",
            remedy="delete it and download it again",
        ) from error
