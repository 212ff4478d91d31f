import functools

import pytest

from tests.command import call


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Calls the command line from an empty folder."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(call, capsys=capsys, monkeypatch=monkeypatch)
