"""Honest archives are unpacked whole; damaged and hostile ones leave nothing behind."""

import gzip
import io
import stat
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ddpm_lightning.datasets.preparation.archive import Limits, is_archive, unpack
from ddpm_lightning.utils.errors import UserError
from tests.datasets.miniatures import tree

FILES = {"set/raw/1/a.png": b"one" * 100, "set/raw/10/b.png": bytes(range(256)), "set/gt/1/ä.png": b""}
STRICT = Limits(ratio=20, always=100_000, members=50)


def make_zip(path: Path, files=FILES, **settings) -> Path:
    with zipfile.ZipFile(path, "w", **settings) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files=FILES, mode="w", members=()) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return path


def make_rar(path: Path) -> Path:
    path.write_bytes(b"Rar!\x1a\x07\x01\x00" + b"content of an archive")
    return path


def stand_in_for_bsdtar(folder: Path, payload: Path) -> None:
    """Puts a command ``bsdtar`` on the path that writes a TAR stream, as the real one does with ``-cf - @FILE``."""
    folder.mkdir()
    program = folder / "bsdtar"
    check = "assert sys.argv[1:3] == ['-cf', '-'] and sys.argv[3].startswith('@')"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n{check}\nsys.stdout.buffer.write(open({str(payload)!r}, 'rb').read())\n"
    )
    program.chmod(0o755)


@pytest.fixture
def no_unrar(monkeypatch):
    monkeypatch.setitem(sys.modules, "unrar", None)
    monkeypatch.setitem(sys.modules, "unrar.cffi", None)


@pytest.mark.parametrize(
    "make",
    [
        make_zip,
        lambda path: make_zip(path, compression=zipfile.ZIP_DEFLATED),
        make_tar,
        lambda path: make_tar(path, mode="w:gz"),
        lambda path: make_tar(path, mode="w:bz2"),
        lambda path: make_tar(path, mode="w:xz"),
    ],
    ids=["zip", "deflated", "tar", "tar.gz", "tar.bz2", "tar.xz"],
)
def test_all_files_come_out_whatever_the_archive_is_called(make, tmp_path):
    archive = make(tmp_path / "archive.rar")
    assert is_archive(archive)
    unpack(archive, tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in tree(tmp_path / "out")} == FILES


def test_a_single_compressed_file(tmp_path):
    path = tmp_path / "image.tif.gz"
    path.write_bytes(gzip.compress(b"pixels"))
    unpack(path, tmp_path / "out")
    assert (tmp_path / "out" / "image.tif").read_bytes() == b"pixels"


def test_rar_goes_through_bsdtar(tmp_path, monkeypatch, no_unrar):
    stand_in_for_bsdtar(tmp_path / "bin", make_tar(tmp_path / "payload"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    unpack(make_rar(tmp_path / "a.rar"), tmp_path / "out")
    assert len(tree(tmp_path / "out")) == len(FILES)


def test_rar_without_a_tool_says_which_would_do(tmp_path, monkeypatch, no_unrar):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"unrar2-cffi[\s\S]*bsdtar[\s\S]*data\.archive=FOLDER"):
        unpack(make_rar(tmp_path / "a.rar"), tmp_path / "out")


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("set/link")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def zip_with_link(path: Path) -> Path:
    info = zipfile.ZipInfo("set/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("set/fine.png", b"fine")
        archive.writestr(info, "/etc/passwd")
    return path


def encrypted(path: Path) -> Path:
    content = make_zip(path).read_bytes()
    # The flag of the central directory entries, 8 bytes after their signature.
    path.write_bytes(
        b"PK\x01\x02".join(
            p if not i else p[:4] + b"\x01" + p[5:] for i, p in enumerate(content.split(b"PK\x01\x02"))
        )
    )
    return path


def truncated(path: Path) -> Path:
    make_tar(path, {"a.png": bytes(5000)}, "w:gz")
    path.write_bytes(path.read_bytes()[:-40])
    return path


def corrupt(path: Path) -> Path:
    content = bytearray(make_zip(path, {"a.png": b"0123456789" * 50}).read_bytes())
    content[100] ^= 255
    path.write_bytes(content)
    return path


def text(path: Path) -> Path:
    path.write_text("<html>please log in</html>")
    return path


BAD = {
    "path escape": (
        lambda p: make_zip(p, {"fine.png": b"1", "../evil.png": b"2"}),
        ["'../evil.png'", "leads outside"],
    ),
    "path escape in tar": (lambda p: make_tar(p, {"a/../../evil.png": b"2"}), ["leads outside"]),
    "path escape of Windows": (lambda p: make_zip(p, {"..\\evil.png": b"2"}), ["leads outside"]),
    "absolute path": (lambda p: make_tar(p, {"/evil.png": b"2"}), ["/evil.png", "leads outside"]),
    "drive": (lambda p: make_zip(p, {"C:/evil.png": b"2"}), ["leads outside"]),
    "symbolic link": (lambda p: make_tar(p, members=[link(tarfile.SYMTYPE)]), ["set/link", "a link"]),
    "hard link": (lambda p: make_tar(p, members=[link(tarfile.LNKTYPE)]), ["set/link", "a link"]),
    "link in zip": (zip_with_link, ["set/link", "a link"]),
    "device": (lambda p: make_tar(p, members=[link(tarfile.CHRTYPE)]), ["a device"]),
    "bomb": (
        lambda p: make_zip(p, {"zeros": bytes(10**6)}, compression=zipfile.ZIP_DEFLATED),
        ["bomb", "data.archive="],
    ),
    "compressed bomb": (lambda p: make_tar(p, {"zeros": bytes(10**6)}, "w:xz"), ["bomb"]),
    "too many files": (lambda p: make_zip(p, {f"{n}.png": b"" for n in range(60)}), ["bomb", "50 files"]),
    "twice the same": (
        lambda p: make_tar(make_tar(p), {"a": b"1"}, members=[tarfile.TarInfo("a")]),
        ["'a' twice"],
    ),
    "encrypted": (encrypted, ["encrypted"]),
    "truncated": (truncated, ["damaged or incomplete", "download it again"]),
    "corrupt": (corrupt, ["damaged or incomplete"]),
    "empty": (lambda p: make_zip(p, {}), ["contains no files"]),
    "no archive": (text, ["not a supported archive", "ZIP, TAR"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_archives_are_named_and_leave_nothing(case, tmp_path):
    make, words = BAD[case]
    folder = tmp_path / "here"
    folder.mkdir()
    archive = make(folder / "archive")
    with pytest.raises(UserError) as caught:
        unpack(archive, folder / "out", STRICT)
    for word in [str(archive), *words]:
        assert word in str(caught.value)
    assert list(folder.iterdir()) == [archive] and list(tmp_path.iterdir()) == [folder]
