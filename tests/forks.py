"""Commands in forks of the test's own process: all is imported once, which otherwise takes most of their time."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from ddpm_lightning.benchmark import jobs
from ddpm_lightning.cli import benchmark, evaluate, main, prepare, restore, train  # noqa: F401  (once, for all forks)
from ddpm_lightning.utils import lock
from ddpm_lightning.utils.subprocesses import run_command
from experiments import common
from tests.command import call

__all__ = ["begin", "command_in_a_fork", "fork_jobs"]


def begin(arguments: Sequence[str], log: str | Path) -> int:
    """Starts a command in a fork, in a session of its own, and returns its process number."""
    if process := os.fork():
        return process
    os.setsid()
    for descriptor in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    os.environ.pop(lock.VARIABLE, None)
    code: object = 1
    try:
        sys.argv = ["ddpm-lightning", *arguments]
        main.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def command_in_a_fork(
    command: Sequence[str],
    environment: Mapping[str, str],
    stopped: str,
    output: IO[str],
    meanwhile: object = None,
) -> int:
    """Replaces ``run_command`` of the benchmark, whose commands are ``python -m ddpm_lightning VERB …``."""
    return os.waitstatus_to_exitcode(os.waitpid(begin(command[3:], output.name), 0)[1])


def fork_jobs(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets experiments call the benchmark in the test's own process, and the benchmark run its jobs in forks.

    Jobs of the Gaussian filter have processes of their own, as all jobs have outside of tests.
    """

    def command(*arguments: str) -> None:
        answer = call(*arguments, capsys=capsys, monkeypatch=monkeypatch)
        assert answer.code == 0, answer.out + answer.err

    def run(command: Sequence[str], *arguments: Any, **settings: Any) -> int:
        run_one = run_command if "model=gaussian" in command else command_in_a_fork
        return run_one(list(command), *arguments, **settings)

    monkeypatch.setattr(common, "command", command)
    monkeypatch.setattr(jobs, "run_command", run)
