"""The command line, called inside of the test's own process."""

import sys
from dataclasses import dataclass

import pytest

from ddpm_lightning.cli.main import main


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def subject(self) -> str:
        """The file or key that the error is about."""
        return self.err.rpartition("error: ")[2].partition(": ")[0]

    @property
    def remedy(self) -> str:
        """What the error says to do."""
        return self.err.partition("what to do: ")[2]


def call(*arguments: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Runs ``ddpm-lightning ARGUMENTS`` and returns its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["ddpm-lightning", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    printed = capsys.readouterr()
    return Answer(code, printed.out, printed.err)
