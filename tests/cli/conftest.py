"""Commands are tested without plotting, which has tests of its own in ``tests/reporting``."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def no_plots(blank_figures):
    pass
