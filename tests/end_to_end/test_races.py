"""Several processes for one folder, some killed: one winner, nothing half-written; ``tests/races.py`` is the race."""

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.name != "posix", reason="forks"),
]

#: Races of the test: two of each kind, one of them with a kill; raise it by hand for a longer trial.
ROUNDS = int(os.environ.get("DDPM_LIGHTNING_RACES", 10))


def test_races(tmp_path):
    command = [sys.executable, "-m", "tests.races", str(ROUNDS), "0", str(tmp_path / "races")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, capture_output=True, text=True, timeout=850, env=environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert len(answer.stdout.splitlines()) == ROUNDS
