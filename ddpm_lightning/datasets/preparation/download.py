"""Resumable downloads from several addresses, checked by their hash.

Received bytes are kept in ``NAME.download/`` beside the file until it is complete. The next attempt requests the rest
(``Range``) if the file on the server is unchanged (``If-Range``). If the SHA-256 is not known beforehand, that of the
first download is recorded (``NAME.sha256``) and required from then on.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from ddpm_lightning.datasets.preparation.files import disk_errors, require_space, write_file
from ddpm_lightning.utils.atomic import sha256
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.task_progress import Report

__all__ = ["Remote", "fetch"]


CHUNK = 1 << 20
TIMEOUT = 30.0


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        name: Its name.
        urls: Addresses, tried in this order; empty if it can only be downloaded in a browser.
        sha256: Its hash, if known.
        page: How to download it manually.
    """

    name: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    page: str = ""


def fetch(remote: Remote, folder: Path, mirrors: Sequence[str] = (), progress: Report | None = None) -> Path:
    """Returns a file, after downloading it if necessary.

    Args:
        remote: The file.
        folder: Folder of the file.
        mirrors: Addresses of folders that contain a file of that name, tried first.
        progress: Called with the number of received bytes.

    Raises:
        UserError: If no address provides the complete, correct file.
    """
    path = folder / remote.name
    if path.is_file():
        _check(path, remote)
        return path
    work = folder / f"{remote.name}.download"
    pooch.get_logger().setLevel("WARNING")
    known = f"sha256:{remote.sha256}" if remote.sha256 else None
    failures = []
    for url in (*(f"{mirror.rstrip('/')}/{remote.name}" for mirror in mirrors), *remote.urls):
        getter = _Resuming(work / "part", progress)
        try:
            with disk_errors(work):
                work.mkdir(parents=True, exist_ok=True)
            pooch.retrieve(url, known, fname=remote.name, path=work, downloader=getter)
        except (requests.RequestException, ValueError) as error:
            failures.append(f"{url}: {str(error).strip().splitlines()[0]}")
            continue
        write_file(
            folder / f"{remote.name}.sha256", f"{sha256(work / remote.name)}  {remote.name}\n".encode()
        )
        (work / remote.name).replace(path)
        shutil.rmtree(work)
        return path
    raise UserError(
        remote.name,
        "could not be downloaded" + "".join(f"\n    {failure}" for failure in failures),
        remedy=f"run the same command again to resume the download; or download the file manually: {remote.page}. "
        "Then pass data.archive=FILE",
    )


def _check(path: Path, remote: Remote) -> None:
    record = path.with_name(f"{path.name}.sha256")
    expected = remote.sha256 or (record.read_text(encoding="utf-8").split()[0] if record.is_file() else None)
    if expected is None:
        write_file(record, f"{sha256(path)}  {path.name}\n".encode())
    elif (found := sha256(path)) != expected:
        raise UserError(
            path,
            f"has the sha256 {found}",
            allowed=f"{expected}, as published or first downloaded",
            remedy="it was damaged or replaced: delete it and run the same command again",
        )


class _Resuming:
    """A downloader for pooch that keeps received bytes.

    Args:
        part: File of the received bytes.
        progress: Called with their number.
    """

    def __init__(self, part: Path, progress: Report | None) -> None:
        self.part, self.note, self.progress = part, part.with_name("part.json"), progress

    def __call__(self, fname: str, action: object, pooch: object, *, check_only: bool | None = None) -> None:
        """Downloads a file; called by pooch, which then compares the hash.

        Args:
            fname: Address of the file.
            action: Path of the file to write.
            pooch: Not used.
            check_only: Not used.

        Raises:
            requests.RequestException: If the server cannot be reached or fails.
            ValueError: If it sends something else, or only a part.
        """
        while True:
            before = self._received()
            try:
                self._attempt(fname)
                break
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                # Retried if the connection broke after some bytes, but not if nothing was received.
                if self._received() <= before:
                    raise
        self.note.unlink()
        self.part.replace(str(action))

    def _received(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _attempt(self, url: str) -> None:
        start = self._received()
        note = json.loads(self.note.read_text(encoding="utf-8")) if self.note.is_file() else {}
        headers = {"Accept-Encoding": "identity"}
        if start and note.get("url") == url and note["version"]:
            headers |= {"Range": f"bytes={start}-", "If-Range": note["version"]}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 416:  # nothing is left to send, or the file on the server became shorter
                self._finish(start, int(answer.headers.get("Content-Range", "*/-1").rpartition("/")[2]))
                return
            answer.raise_for_status()
            kind = answer.headers.get("Content-Type", "")
            if kind.startswith("text/html"):
                raise ValueError("sent a web page instead of a file; a browser may be needed")
            if answer.status_code != 206:
                start = 0
            rest = int(answer.headers.get("Content-Length", -1))
            total = start + rest if rest >= 0 else -1
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            if version and version.startswith("W/"):
                version = None  # a weak tag does not guarantee identical bytes
            require_space(self.part.parent, rest, "the rest of the download")
            write_file(self.note, json.dumps({"url": url, "version": version}).encode())
            with disk_errors(self.part):
                file = self.part.open("ab" if start else "wb")
            with file:
                # The exceptions of requests are OSErrors, too: only those of writing are errors of the disk.
                for chunk in answer.iter_content(CHUNK):
                    with disk_errors(self.part):
                        file.write(chunk)
                    if self.progress:
                        self.progress("downloading", file.tell(), total)
        self._finish(self._received(), total)

    def _finish(self, size: int, total: int) -> None:
        if total >= 0 and size != total:
            if size > total:
                self.part.unlink()
            raise ValueError(f"truncated: {size} of {total} bytes were received")
