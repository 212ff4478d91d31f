"""Locks a folder for one job at a time; the file ``.ddpm_lightning.lock`` in it names the owner.

The file is created atomically, so exactly one of several jobs that start together gets the folder, and the others name
the owner. It is removed when the job ends. If a job was killed, the next one on the same machine finds that its process
has ended and takes over the folder; a system lock (``flock``), which lasts until the last process of a job has ended,
ensures that only one job does so. If the process cannot be checked (on another machine, in another container, or after
a restart), the job is never assumed to have ended, and only ``force=true`` takes over the folder. A job that lost its
folder in this way notices at its next :func:`check`, and stops.

The processes of one job share the lock of the first: they find its token in their environment, or receive it.
"""

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from secrets import token_hex
from typing import Any

from ddpm_lightning.utils.atomic import create_new, disk_full_errors, read_json
from ddpm_lightning.utils.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: the folder of a killed job needs force=true
    fcntl = None

__all__ = ["NAME", "Owner", "check", "descriptors", "give_back", "hold", "holder", "tokens"]

NAME = ".ddpm_lightning.lock"
#: Environment variable with the tokens of a job's locks, for the processes that it starts.
VARIABLE = "DDPM_LIGHTNING_LOCKS"
#: Seconds within which the remaining processes of a job must end after the process that held the lock.
PATIENCE = 10.0
#: Letters of a command that are kept: a shell may put thousands of files into one.
LONGEST = 1000


@dataclass(frozen=True)
class Owner:
    """The owner of a folder.

    Attributes:
        host: Name of the machine.
        boot: Identifier of the machine's current boot, unique across machines; empty if unknown.
        namespace: Process namespace (container) in which the process number is valid.
        process: Number of the process.
        started: Start time of the process in system ticks, because process numbers are reused.
        since: When it locked the folder.
        command: Its command line.
        token: Unique identifier of the lock.
    """

    host: str = "unknown"
    boot: str = ""
    namespace: int = 0
    process: int = 0
    started: int = 0
    since: str = "unknown"
    command: str = ""
    token: str = ""

    def __str__(self) -> str:
        """In words."""
        return f"process {self.process} on {self.host} since {self.since} ({self.command})"

    @property
    def state(self) -> str:
        """``alive``, ``dead``, or ``elsewhere`` if that cannot be checked from here."""
        here = _here()
        if fcntl is None or not self.token or (self.host, self.boot, self.namespace) != here:
            return "elsewhere"
        return "alive" if _started(self.process) == self.started else "dead"


@dataclass
class _Held:
    """A lock that this process holds or shares.

    Attributes:
        path: The file.
        descriptor: The open file, which keeps the system lock.
        token: Token of the owner.
        shared: Whether another process of this job, or another part of this process, took it.
        process: The process that holds it; forked copies do not release it.
    """

    path: Path
    descriptor: int
    token: str
    shared: bool = False
    process: int = field(default_factory=os.getpid)


_held: list[_Held] = []


@contextmanager
def hold(folder: str | Path, force: bool = False, token: str = "") -> Iterator[str]:
    """Locks a folder for the duration of the block. It is created if needed, and removed again if left empty.

    Args:
        folder: The folder.
        force: Take it over from any other job.
        token: Token of another process of this job that holds the lock, if it is not in the environment.

    Yields:
        The token of the lock.

    Raises:
        UserError: If another job has locked the folder.
    """
    folder = Path(os.path.abspath(folder))
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    held: _Held | None = None
    before = os.environ.get(VARIABLE)
    try:
        try:
            with disk_full_errors(folder):
                held = _take(folder / NAME, force, {*tokens(), token} - {""})
        except OSError as error:
            place = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
            found, remedy = error.strerror or error, "choose another folder, or change its permissions"
            if not place.is_dir():
                found, remedy = f"{place} is not a folder", "choose another folder"
            raise UserError(folder, f"cannot be written to ({found})", remedy=remedy) from error
        _held.append(held)
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*tokens(), held.token]))
        yield held.token
    finally:
        if held is not None and held.process == os.getpid():
            _held.remove(held)
            _release(held)
            os.environ.pop(VARIABLE, None)
            if before is not None:
                os.environ[VARIABLE] = before
        for place in made:
            with suppress(OSError):
                place.rmdir()


def tokens() -> list[str]:
    """Returns the tokens of the locks of this job."""
    return [token for token in os.environ.get(VARIABLE, "").split(",") if token]


def check(path: str | Path) -> None:
    """Checks before writing that the folder is still locked by this job.

    Raises:
        UserError: If another job took it over.
    """
    for held in _held:
        if Path(os.path.abspath(path)).is_relative_to(held.path.parent) and not _is_at(held):
            owner = _read(held.path)
            if owner is not None and owner.token != held.token:
                raise UserError(
                    held.path.parent,
                    f"was taken over by {owner} with force=true while this job was running",
                    remedy="run one job per folder; this one stops now and keeps what it has written",
                )


def holder(folder: Path) -> Owner | None:
    """Returns the owner of a folder, or ``None``."""
    return _read(folder / NAME)


def descriptors() -> tuple[int, ...]:
    """Returns the descriptors that a child process must inherit so that the folders stay locked until it ends."""
    return tuple(held.descriptor for held in _held)


def give_back() -> None:
    """Releases all folders, for a process that is about to end without leaving its blocks."""
    for held in _held:
        if held.process == os.getpid():
            _release(held)


def _take(path: Path, force: bool, own: set[str]) -> _Held:
    began = time.monotonic()
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(path) and (held := _made(path)):
                return held
            descriptor = _opened(path)
        except FileNotFoundError:  # released meanwhile; the folder too is removed if it is left empty
            if time.monotonic() - began > PATIENCE:
                raise
            time.sleep(0.01)
            continue
        owner = _read(path, descriptor)
        if owner is not None and owner.token in own:
            _flock(descriptor, exclusive=False)
            return _Held(path, descriptor, owner.token, shared=True)
        try:
            state, waited = owner.state if owner else "unreadable", time.monotonic() - began
            if state == "dead":
                free = _flock(descriptor, exclusive=True)
                if free and _same(descriptor, path) and (held := _made(path, replace=True)):
                    return held
                if free is None:  # it cannot be determined which job was first
                    state = "elsewhere"
                elif (
                    free or waited < PATIENCE
                ):  # another job was first, or processes of the last one are still running
                    time.sleep(0.05)
                    continue
            elif state == "unreadable" and waited < 1:  # some file systems do not write it atomically
                time.sleep(0.05)
                continue
            if not force:
                raise _refused(path, owner, state)
            if held := _made(path, replace=True):
                print(
                    f"{path.parent}: taken over from {owner or 'an unknown job'} (force=true)",
                    file=sys.stderr,
                )
                return held
        finally:
            os.close(descriptor)


def _refused(path: Path, owner: Owner | None, state: str) -> UserError:
    wait = "wait until it has ended, or choose another folder"
    if state == "alive":
        return UserError(path.parent, f"is in use by {owner}", remedy=wait)
    if state == "dead":
        return UserError(path.parent, f"is in use by processes that were started by {owner}", remedy=wait)
    found = f"is in use by {owner}, which cannot be checked from here ({platform.node()})"
    if owner is None:
        found = f"contains {path.name}, which does not name its owner"
    remedy = f"{wait}; if it was killed, repeat the command with force=true"
    return UserError(path.parent, found, remedy=remedy)


def _made(path: Path, replace: bool = False) -> _Held | None:
    """Writes the file with this process as the owner; returns ``None`` if another job was first."""
    owner = _myself()
    content = json.dumps(asdict(owner)).encode()
    draft = path.with_name(f"{path.name}.{owner.token}.partial")
    descriptor, kept = -1, False
    try:
        descriptor = create_new(draft)
        os.write(descriptor, content)
        os.fsync(descriptor)
        _flock(descriptor, exclusive=False)
        if replace:
            draft.replace(path)
            kept = True
        else:
            try:
                os.link(draft, path)
                kept = True
            except FileExistsError:
                kept = (
                    os.fstat(descriptor).st_nlink == 2
                )  # on NFS, a reply may be lost and the request repeated
            except FileNotFoundError:
                raise
            except OSError:  # a file system without links
                os.close(descriptor)
                descriptor = -1  # in case the file cannot be created
                descriptor = create_new(path)
                kept = True
                os.write(descriptor, content)
                os.fsync(descriptor)
                _flock(descriptor, exclusive=False)
    except (FileExistsError, FileNotFoundError):  # another job was first, or removed the draft or the folder
        pass
    finally:
        with suppress(OSError):
            draft.unlink()
        if not kept and descriptor >= 0:
            os.close(descriptor)
    return _Held(path, descriptor, owner.token) if kept else None


def _release(held: _Held) -> None:
    if fcntl is None:
        os.close(held.descriptor)  # Windows cannot remove open files
    if not held.shared and _is_at(held):
        with suppress(OSError):
            held.path.unlink()
    if fcntl is not None:
        os.close(held.descriptor)


def _is_at(held: _Held) -> bool:
    """Says whether the lock file is still that of this job."""
    if fcntl is None:
        owner = _read(held.path)
        return owner is not None and owner.token == held.token
    return _same(held.descriptor, held.path)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _opened(path: Path) -> int:
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, os.O_RDWR | flags)
    except FileNotFoundError:
        raise
    except PermissionError:
        with suppress(OSError):
            return os.open(path, os.O_RDONLY | flags)  # another user's
        raise
    except OSError as error:  # a link, or a folder
        remedy = "remove it, or choose another folder"
        raise UserError(path, "is not a lock file of this program", remedy=remedy) from error


def _flock(descriptor: int, exclusive: bool) -> bool | None:
    """Takes the system lock on a file; ``False`` if others hold it, ``None`` if the system has no such lock."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _read(path: Path, descriptor: int | None = None) -> Owner | None:
    """Returns the owner named in a file, if it is a lock file of this program."""
    content: Any = {}
    if descriptor is None:
        content = read_json(path)
    else:
        with suppress(ValueError, OSError, RecursionError):
            content = json.loads(
                os.pread(descriptor, 1 << 16, 0) if hasattr(os, "pread") else path.read_bytes()
            )
    if not isinstance(content, dict):
        return None
    plain = asdict(Owner())
    if content.keys() != plain.keys() or any(type(content[key]) is not type(plain[key]) for key in plain):
        return None
    fields: dict[str, Any] = {
        key: "".join(filter(str.isprintable, value)) if isinstance(value, str) else value
        for key, value in content.items()
    }
    return Owner(**fields)


def _myself() -> Owner:
    host, boot, namespace = _here()
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    command = command if len(command) <= LONGEST else f"{command[:LONGEST]} …"
    started = _started(os.getpid())
    return Owner(host, boot, namespace, os.getpid(), started, since, command, token_hex(8))


@lru_cache(maxsize=1)
def _here() -> tuple[str, str, int]:
    """Returns host, boot and namespace: only if they agree can a process number be checked."""
    boot, namespace = "", 0
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    return platform.node(), boot, namespace


def _started(process: int) -> int:
    """Returns when a process started: -1 if it does not exist or has ended, and 0 if this is unknown."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return -1
        except OSError:
            pass
        return 0
    try:
        # The second field is a name, which may hold anything, in parentheses.
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        return -1 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return -1
