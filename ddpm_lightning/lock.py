"""A folder belongs to one job at a time; the file ``.ddpm_lightning.lock`` in it says to which.

The file appears whole and at once, so of any number of jobs that start together one has the folder, and the others say
who that is. It goes when the job ends. Where a job was killed, the next one on the same machine finds that its process
has ended and takes the folder; a lock of the system (``flock``), which ends with the last process of a job, lets one
alone do so. A machine that cannot look at the process, which is any other one, and also another container or the same
machine after a start, never assumes that it has ended: ``force=true`` takes the folder all the same. Whoever lost a
folder in this way notices when it next asks (:func:`check`), and stops.

The processes of one job share the lock of the first of them: they find its token in their environment, or are given it.
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

from ddpm_lightning.errors import UserError
from ddpm_lightning.storage import disk_full_named, new_file, read_json

try:
    import fcntl
except ImportError:  # Windows: a folder of a job that was killed takes force=true
    fcntl = None

__all__ = ["NAME", "Owner", "check", "descriptors", "give_back", "hold", "holder", "tokens"]

NAME = ".ddpm_lightning.lock"
#: Tells processes that are started by a job which locks are its own.
VARIABLE = "DDPM_LIGHTNING_LOCKS"
#: Seconds that the last processes of a job have to end after the first one, which held the lock.
PATIENCE = 10.0
#: Letters of a command that are kept: a shell may put thousands of files into one.
LONGEST = 1000


@dataclass(frozen=True)
class Owner:
    """Who holds a folder.

    Attributes:
        host: Name of the machine.
        boot: What tells one start of a machine from another, and machines of one name; empty where it is not known.
        namespace: In which of the machine's containers process numbers hold.
        process: Number of the process.
        started: When the process started, in the ticks of the system: numbers of processes are given again.
        since: When it took the folder.
        command: What it does.
        token: What tells this lock from all others.
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
        """``alive``, ``dead``, or ``elsewhere`` where that cannot be found out from here."""
        here = _here()
        if fcntl is None or not self.token or (self.host, self.boot, self.namespace) != here:
            return "elsewhere"
        return "alive" if _started(self.process) == self.started else "dead"


@dataclass
class _Held:
    """A lock that this process has, or shares.

    Attributes:
        path: The file.
        descriptor: The open file, which keeps the lock of the system.
        token: Token of the owner.
        shared: Whether another process of this job took it, or another part of this process.
        process: The process that has it: copies of it do not give it back.
    """

    path: Path
    descriptor: int
    token: str
    shared: bool = False
    process: int = field(default_factory=os.getpid)


_held: list[_Held] = []


@contextmanager
def hold(folder: str | Path, force: bool = False, token: str = "") -> Iterator[str]:
    """Holds a folder as long as the block lasts; it is made, and removed again if nothing was put into it.

    Args:
        folder: The folder.
        force: Take it from whoever has it.
        token: Token of another process of this job that has it, where it is not in the environment.

    Yields:
        The token of the lock.

    Raises:
        UserError: If another job has the folder.
    """
    folder = Path(os.path.abspath(folder))
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    held: _Held | None = None
    before = os.environ.get(VARIABLE)
    try:
        try:
            with disk_full_named(folder):
                folder.mkdir(parents=True, exist_ok=True)
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
    """Makes sure, before something is written, that the folder it goes to is still held.

    Raises:
        UserError: If another job took it.
    """
    for held in _held:
        if Path(os.path.abspath(path)).is_relative_to(held.path.parent) and not _is_at(held):
            owner = _read(held.path)
            if owner is not None and owner.token != held.token:
                raise UserError(
                    held.path.parent,
                    f"was taken by {owner} with force=true while this job was at work",
                    remedy="stop one of the two; this one stops here, and leaves what it wrote so far",
                )


def holder(folder: Path) -> Owner | None:
    """Returns who has a folder, or ``None``."""
    return _read(folder / NAME)


def descriptors() -> tuple[int, ...]:
    """Returns what a process must inherit so that the folders are not free before it has ended as well."""
    return tuple(held.descriptor for held in _held)


def give_back() -> None:
    """Gives all folders back, for a process that is about to end without leaving its blocks."""
    for held in _held:
        if held.process == os.getpid():
            _release(held)


def _take(path: Path, force: bool, own: set[str]) -> _Held:
    began = time.monotonic()
    while True:
        if not os.path.lexists(path) and (held := _made(path)):
            return held
        try:
            descriptor = _opened(path)
        except FileNotFoundError:  # given back meanwhile
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
                if free is None:  # who was first cannot be found out
                    state = "elsewhere"
                elif (
                    free or waited < PATIENCE
                ):  # another job was first, or processes of the last one are there
                    time.sleep(0.05)
                    continue
            elif state == "unreadable" and waited < 1:  # some systems cannot write it at once
                time.sleep(0.05)
                continue
            if not force:
                raise _refused(path, owner, state)
            if held := _made(path, replace=True):
                print(f"{path.parent}: taken by force=true from {owner or 'an unknown job'}", file=sys.stderr)
                return held
        finally:
            os.close(descriptor)


def _refused(path: Path, owner: Owner | None, state: str) -> UserError:
    wait = "wait until it has ended, or choose another folder"
    if state == "alive":
        return UserError(path.parent, f"is in use by {owner}", remedy=wait)
    if state == "dead":
        return UserError(path.parent, f"is in use by processes that were started by {owner}", remedy=wait)
    found = f"is in use by {owner}, which cannot be looked at from here ({platform.node()})"
    if owner is None:
        found = f"holds {path.name}, which does not say whose it is"
    remedy = f"{wait}; if it was killed, repeat the command with force=true"
    return UserError(path.parent, found, remedy=remedy)


def _made(path: Path, replace: bool = False) -> _Held | None:
    """Writes the file with this process as the owner; nothing, if there is one."""
    owner = _myself()
    content = json.dumps(asdict(owner)).encode()
    draft = path.with_name(f"{path.name}.{owner.token}.partial")
    descriptor, kept = new_file(draft), False
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        _flock(descriptor, exclusive=False)
        if replace:
            with suppress(FileNotFoundError):  # whoever has the folder removed the draft
                draft.replace(path)
                kept = True
        else:
            try:
                os.link(draft, path)
                kept = True
            except FileExistsError:
                kept = os.fstat(descriptor).st_nlink == 2  # of NFS, an answer may be lost and asked for again
            except FileNotFoundError:  # whoever has the folder removed the draft
                pass
            except OSError:  # a file system without links
                os.close(descriptor)
                descriptor = new_file(path)
                kept = True
                os.write(descriptor, content)
                os.fsync(descriptor)
                _flock(descriptor, exclusive=False)
    except FileExistsError:
        descriptor = -1
    finally:
        with suppress(OSError):
            draft.unlink()
        if not kept and descriptor >= 0:
            os.close(descriptor)
    return _Held(path, descriptor, owner.token) if kept else None


def _release(held: _Held) -> None:
    if fcntl is None:
        os.close(held.descriptor)  # what is open cannot be removed there
    if not held.shared and _is_at(held):
        with suppress(OSError):
            held.path.unlink()
    if fcntl is not None:
        os.close(held.descriptor)


def _is_at(held: _Held) -> bool:
    """Says whether the file is still the one of this job."""
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
        raise UserError(path, "is in the way: it is no file of this program", remedy=remedy) from error


def _flock(descriptor: int, exclusive: bool) -> bool | None:
    """Takes the lock of the system on a file; ``False`` where others have it, ``None`` where there is no such lock."""
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
    """Returns what a file says, if it is one of ours."""
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
    texts = {
        key: "".join(filter(str.isprintable, value))
        for key, value in content.items()
        if isinstance(value, str)
    }
    return Owner(**content | texts)


def _myself() -> Owner:
    host, boot, namespace = _here()
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    command = command if len(command) <= LONGEST else f"{command[:LONGEST]} …"
    started = _started(os.getpid())
    return Owner(host, boot, namespace, os.getpid(), started, since, command, token_hex(8))


@lru_cache(maxsize=1)
def _here() -> tuple[str, str, int]:
    """Returns what must be the same for a process number to mean a process that can be looked at."""
    boot, namespace = "", 0
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    return platform.node(), boot, namespace


def _started(process: int) -> int:
    """Returns when a process started: -1 if there is none, or it is one that has ended, and 0 if it cannot be known."""
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
