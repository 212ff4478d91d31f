"""The public names of the package: they resolve, are documented, and load nothing that they do not need."""

import inspect
import re
import subprocess
import sys
from functools import cached_property

import pytest

import ddpm_lightning as dl
from ddpm_lightning import utils

HEAVY = ("lightning", "hydra", "wandb", "torchmetrics", "torchvision", "matplotlib", "scipy", "skimage")
NAMES = [name for name in dl.__all__ if name != "__version__"]


def functions():
    """Yields the public functions, and the public methods of the public classes, by name."""
    for name in NAMES:
        value = getattr(dl, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value) and value is not dl.Method and not issubclass(value, Exception):
            others = [base for base in value.__mro__ if not base.__module__.startswith("ddpm_lightning")]
            for member, function in inspect.getmembers(value, inspect.isroutine):
                hook = any(hasattr(base, member) for base in others)  # of Lightning, which describes it
                if not member.startswith("_") and not hook and not isinstance(function, cached_property):
                    yield f"{name}.{member}", function


FUNCTIONS = dict(functions())


@pytest.mark.parametrize("name", NAMES)
def test_names_resolve_and_are_described(name):
    assert name in dir(dl)
    assert len(inspect.getdoc(getattr(dl, name)) or "") > 40


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_name_arguments_results_and_errors(name):
    function = FUNCTIONS[name]
    text = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    parameters = [name for name in signature.parameters if name not in ("self", "cls")]
    assert text, f"{name} has no docstring"
    if len(parameters) > 1:
        missing = [parameter for parameter in parameters if f"    {parameter}: " not in text]
        assert "Args:" in text and not missing, f"{name} does not describe {missing}"
    if signature.return_annotation not in (None, "None", inspect.Signature.empty):
        assert re.search(r"\b(Returns|Yields|Whether)\b|^Says", text), f"{name} does not say what it returns"
    if re.search(r"\braise (UserError|type\(error\))", inspect.getsource(function)):
        assert "Raises:" in text, f"{name} does not name its errors"


def test_unknown_names_raise_as_for_any_module():
    with pytest.raises(AttributeError, match="no_such_name"):
        dl.no_such_name  # noqa: B018
    assert dl.utils is utils


@pytest.mark.parametrize("name", ["Restorer", "load_method", "restore_folder"])
def test_restoring_loads_nothing_heavy(name):
    code = f"import sys, ddpm_lightning as dl; dl.{name}; print(*[m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.split() == []
