"""Runs the tests that need a GPU, and records the outcome of each with the differences that it measured."""

import os
from pathlib import Path
from typing import Any

import pytest

from experiments.gpu.results import Results, opened

ROOT = Path(__file__).parents[2]
FINE = ("passed", "skipped")


class Recorder:
    """Plugin of pytest that writes the outcome of each test at once, and leaves out those that passed before."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.passed = {name for name, row in results.rows.items() if row["outcome"] in FINE}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leaves out tests that passed and, in the shrunken form, all but the first of each function."""
        left = [item for item in items if item.nodeid.partition("::")[2] not in self.passed]
        if self.results.tiny:
            left = list({item.name.partition("[")[0]: item for item in reversed(left)}.values())[::-1]
        items[:] = left

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Records a test, or what failed before or after it."""
        if report.when != "call" and report.outcome == "passed":
            return
        name = report.nodeid.partition("::")[2]
        row: dict[str, Any] = {"outcome": report.outcome, "took": round(report.duration, 2)}
        row["differences"] = {str(key): value for key, value in report.user_properties}
        if report.outcome != "passed":
            row["reason"] = str(report.longrepr)[-400:]
        self.results.rows[name] = row
        self.results.write()


def measure(results: Results) -> None:
    """Runs all tests that are marked ``gpu``."""
    os.environ["DDPM_LIGHTNING_TEST_DEVICE"] = results.device.type
    os.chdir(ROOT)
    pytest.main(["-m", "gpu", "tests/gpu", "-q", "-p", "no:cacheprovider"], plugins=[Recorder(results)])
    rows = results.rows.values()
    results.write(complete=bool(rows) and all(row["outcome"] in FINE for row in rows))


if __name__ == "__main__":
    measure(opened())
