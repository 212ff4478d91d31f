"""Downloads that survive interruption: several addresses, resumed where they stopped, checked by their hash.

What has arrived is kept in ``NAME.download/`` beside the file until it is whole. The next attempt asks the server for
the rest (``Range``), on the condition that the file is still the same there (``If-Range``). A sha256 that is not known
beforehand is written down at the first download (``NAME.sha256``) and holds from then on.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from ddpm_lightning.datasets.preparation.files import disk_errors, require_space, write_file
from ddpm_lightning.utils.atomic import sha256
from ddpm_lightning.utils.errors import UserError

__all__ = ["Progress", "Remote", "fetch"]

#: Told what is done, how much of it is done, and how much there is in all.
Progress = Callable[[str, int, int], None]

CHUNK = 1 << 20
TIMEOUT = 30.0


@dataclass(frozen=True)
class Remote:
    """A file that is published somewhere.

    Attributes:
        name: Its name.
        urls: Addresses, tried in this order; empty where only a browser gets it.
        sha256: Its hash, where it is known.
        page: Where a person finds it, and how.
    """

    name: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    page: str = ""


def fetch(
    remote: Remote, folder: Path, mirrors: Sequence[str] = (), progress: Progress | None = None
) -> Path:
    """Returns the file in a folder; downloads it unless it is there.

    Args:
        remote: What to get.
        folder: Where it is kept.
        mirrors: Addresses of folders that hold a file of that name, tried first.
        progress: Called now and then with the bytes that have arrived.

    Raises:
        UserError: If no address gave the whole, right file.
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
        remedy=f"run the same command again, it goes on where it stopped; or get the file by hand: {remote.page}. "
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
            allowed=f"{expected}, as it was published or first downloaded",
            remedy="it was damaged or replaced since: delete it and run the same command again",
        )


class _Resuming:
    """A downloader for pooch that keeps what has arrived.

    Args:
        part: Where arriving bytes are kept.
        progress: Called now and then.
    """

    def __init__(self, part: Path, progress: Progress | None) -> None:
        self.part, self.note, self.progress = part, part.with_name("part.json"), progress

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Downloads the file; called by pooch, which then compares the hash.

        Raises:
            requests.RequestException: If the server cannot be reached or fails.
            ValueError: If it gave something else, or not all.
        """
        while True:
            before = self._arrived()
            try:
                self._attempt(url)
                break
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                # A connection that broke after some bytes is worth another try; one that brings nothing is not.
                if self._arrived() <= before:
                    raise
        self.note.unlink()
        self.part.replace(output_file)

    def _arrived(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _attempt(self, url: str) -> None:
        start = self._arrived()
        note = json.loads(self.note.read_text(encoding="utf-8")) if self.note.is_file() else {}
        headers = {"Accept-Encoding": "identity"}
        if start and note.get("url") == url and note["version"]:
            headers |= {"Range": f"bytes={start}-", "If-Range": note["version"]}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 416:  # nothing is left to send, or the file there became shorter
                self._finish(start, int(answer.headers.get("Content-Range", "*/-1").rpartition("/")[2]))
                return
            answer.raise_for_status()
            kind = answer.headers.get("Content-Type", "")
            if kind.startswith("text/html"):
                raise ValueError("gave a web page, not a file; a browser may be needed")
            if answer.status_code != 206:
                start = 0
            rest = int(answer.headers.get("Content-Length", -1))
            total = start + rest if rest >= 0 else -1
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            if version and version.startswith("W/"):
                version = None  # a weak tag does not promise equal bytes
            require_space(self.part.parent, rest, "the rest of the download")
            write_file(self.note, json.dumps({"url": url, "version": version}).encode())
            with disk_errors(self.part):
                file = self.part.open("ab" if start else "wb")
            with file:
                # The exceptions of requests are errors of the system, too: only the writing is the disk's.
                for chunk in answer.iter_content(CHUNK):
                    with disk_errors(self.part):
                        file.write(chunk)
                    if self.progress:
                        self.progress("downloading", file.tell(), total)
        self._finish(self._arrived(), total)

    def _finish(self, size: int, total: int) -> None:
        if total >= 0 and size != total:
            if size > total:
                self.part.unlink()
            raise ValueError(f"truncated: {size} of {total} bytes arrived")
