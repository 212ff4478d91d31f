"""The register: which names a file may use, held against every name that the package has."""

import importlib
import inspect
import pkgutil
import sys

import lightning
import pytest
import torch
import yaml

import ddpm_lightning
from ddpm_lightning.cli import compose
from ddpm_lightning.cli.tree import config_folder
from ddpm_lightning.utils import allowed_classes
from ddpm_lightning.utils.allowed_classes import (
    HOLDS,
    OWN,
    REGISTER,
    kind_of,
    registered_class,
    trusted_packages,
)
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build, check

NAMES = {name for names in REGISTER.values() for name in names}
BASES = {
    "method": "ddpm_lightning.models.method.Method",
    "network": "torch.nn.Module",
    "schedule": "ddpm_lightning.diffusion.schedule.Schedule",
    "optimizer": "torch.optim.Optimizer",
    "data": "ddpm_lightning.data.datamodule.PairDataModule",
    "callback": "lightning.pytorch.callbacks.Callback",
    "logger": "lightning.pytorch.loggers.Logger",
    "strategy": "lightning.pytorch.strategies.Strategy",
    "profiler": "lightning.pytorch.profilers.Profiler",
}


def modules():
    for found in pkgutil.walk_packages(ddpm_lightning.__path__, "ddpm_lightning."):
        if not found.name.endswith(("__main__", "_widget")):
            yield importlib.import_module(found.name)


def passes(name) -> bool:
    try:
        return isinstance(registered_class(name), type)
    except UserError:
        return False


@pytest.fixture
def quick(monkeypatch):
    """Refusals without a search for the name that was meant."""
    monkeypatch.setattr(allowed_classes, "nearest", lambda *_, **__: [])


def test_of_all_names_of_the_package_only_registered_classes_pass(quick):
    tried, passed = set(), set()
    for module in modules():
        tried.add(module.__name__)
        for name, value in vars(module).items():
            tried.add(f"{module.__name__}.{name}")
            # One step further: what is reached through an imported module or a class.
            if inspect.ismodule(value) or inspect.isclass(value):
                tried |= {f"{module.__name__}.{name}.{inner}" for inner in dir(value)}
    passed = {name for name in tried if passes(name)}
    assert len(tried) > 10_000
    assert passed == {name for name in NAMES if name.startswith("ddpm_lightning.")}


@pytest.mark.parametrize("kind", REGISTER)
def test_registered_names_are_classes_of_their_kind_at_their_own_place(kind):
    for name in REGISTER[kind]:
        found = registered_class(name)
        assert inspect.isclass(found) and kind_of(name) == kind
        if name.startswith("ddpm_lightning."):
            # A class may be registered at its module, or at the package that exports it.
            place = name.removesuffix(f".{found.__qualname__}")
            assert place != name and f"{found.__module__}.".startswith(f"{place}.")
        if kind in BASES:
            module, _, base = BASES[kind].rpartition(".")
            assert issubclass(found, getattr(importlib.import_module(module), base)), name


def test_the_names_of_torch_and_lightning_that_pass_are_those_of_the_list(quick):
    for module in (
        torch.optim,
        lightning.pytorch.callbacks,
        lightning.pytorch.loggers,
        torch,
        lightning.pytorch,
    ):
        for name in dir(module):
            full = f"{module.__name__}.{name}"
            assert passes(full) == (full in NAMES), full


def targets(node):
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for key, value in node.items():
            if key != "hydra":  # Hydra's own: set by the program, and no part of any run
                yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def test_every_class_that_the_configurations_name_is_registered():
    folder = config_folder()
    found = {
        target
        for path in folder.rglob("*.yaml")
        if path.relative_to(folder).parts[0] != "hydra"
        for target in targets(yaml.safe_load(path.read_text(encoding="utf-8")))
    }
    assert len(found) > 40 and found <= NAMES, found - NAMES


def test_kinds_hold_known_kinds():
    assert set(HOLDS) <= set(REGISTER) and {kind for held in HOLDS.values() for kind in held} <= set(REGISTER)


SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}
DDIM = {"_target_": "ddpm_lightning.diffusion.samplers.DDIM", "steps": 3}


@pytest.mark.parametrize(
    ("node", "kinds", "words"),
    [
        (SGD, ("sampler",), "is of the kind optimizer"),
        ({**DDIM, "steps": SGD}, None, "plain values"),
        ({**DDIM, "_partial_": True}, None, "_partial_"),
        ({**SGD, "_partial_": "yes"}, None, "_partial_"),
        ({"_partial_": True}, None, "_partial_"),
        ({**DDIM, "_args_": [3]}, None, "_args_"),
        ({**DDIM, "_recursive_": False}, None, "_recursive_"),
        ({**DDIM, "_convert_": "all"}, None, "_convert_"),
        ({**DDIM, 3: 4}, None, "3"),
        ({**DDIM, "steps": "3"}, None, "steps"),
        ({**DDIM, "steps": [3]}, None, "steps"),
        ({**DDIM, "steps": -3}, None, "steps"),
        ({**DDIM, "steps": 10**400}, None, "giant number"),
        ({**DDIM, "eta": float("nan")}, None, "eta"),
        ({**DDIM, "eta": True}, None, "eta"),
        ({**DDIM, "antithetic": "yes"}, None, "antithetic"),
        ({**DDIM, "steps": {"a": 1}}, None, "steps"),
        ({**DDIM, "steps": object()}, None, "object"),
        ({**DDIM, "colour": 1}, None, "is not a setting of DDIM"),
        ({"_target_": None}, None, "None"),
        ({"_target_": ["os", "system"]}, None, "os"),
        ({"_target_": "ddpm_lightning.diffusion.samplers.DDIM "}, None, "not allowed"),
        ({"_target_": "ddpm_lightning.diffusion..samplers.DDIM"}, None, "not allowed"),
    ],
)
def test_what_no_description_may_hold(node, kinds, words):
    with pytest.raises(UserError, match=words):
        check(node, kinds)


def test_size_and_depth_of_a_description_are_limited_and_it_may_hold_itself():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    many: list = []
    for _ in range(40):  # 2^40 values, if they were counted one by one
        many = [many, many]
    turning: dict = {}
    turning["again"] = turning
    for node in (deep, many, turning, [0] * 200_000):
        with pytest.raises(UserError, match="nested|more than"):
            check({"a": node})
    del deep[:]


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    """A package of somebody's own that leaves a mark when it is imported."""
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab/__init__.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'imported')!r}).touch()\n"
    )
    (tmp_path / "mylab/nets.py").write_text(
        "import os\nimport subprocess\nfrom subprocess import Popen\nfrom pathlib import Path\n"
        "class Tiny:\n    def __init__(self, width):\n        self.width = width\n"
        "def function():\n    return 1\nvalue = Tiny(3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "imported"
    for name in [name for name in sys.modules if name.split(".")[0] == "mylab"]:
        del sys.modules[name]


def test_a_package_is_not_even_imported_unless_it_is_trusted(mylab):
    node = {"_target_": "mylab.nets.Tiny", "width": 4}
    with pytest.raises(UserError, match="trust=mylab"):
        build(node)
    assert not mylab.exists()
    assert build(node, trust=["mylab"]).width == 4 and mylab.exists()
    assert build(node, ("network",), trust=["mylab"]).width == 4


@pytest.mark.parametrize(
    "name",
    ["function", "value", "Popen", "subprocess.Popen", "os.system", "Path", "os", "Tiny.__init__", "none"],
)
def test_of_a_trusted_package_only_its_own_classes_pass(mylab, name):
    with pytest.raises(UserError, match=r"is not a class|cannot be found"):
        build({"_target_": f"mylab.nets.{name}"}, trust=["mylab"])


def test_trust_does_not_extend_to_other_files(mylab):
    for name in (
        "os.system",
        "mylabs.Tiny",
        "mylab",
        "ddpm_lightning.utils.atomic.AtomicWriter",
        "torch.nn.Linear",
    ):
        with pytest.raises(UserError, match="not allowed"):
            build({"_target_": name}, trust=["mylab"])


def test_the_own_configuration_names_any_class(mylab):
    node = {"_target_": "mylab.nets.Tiny", "width": {"_target_": "torch.nn.Identity"}}
    assert isinstance(build(node, ("network",), OWN).width, torch.nn.Identity) and mylab.exists()
    assert build({"_target_": "mylab.nets.Path"}, trust=OWN)
    # A registered class is still checked for its place, and every class for its settings.
    for wrong, words in (
        ({**DDIM, "steps": SGD}, "plain values"),
        ({"_target_": "mylab.nets.Tiny", "depth": 3}, "depth: is not a setting of Tiny"),
        ({"_target_": "mylab.nets.function"}, "is not a class"),
        ({"_target_": "mylab.nets.None"}, "cannot be found"),
        ({"_target_": "ddpm_lightning.diffusion.samplers.DDMI"}, "did you mean .*DDIM"),
        ({"_target_": "Tiny"}, "not allowed"),
    ):
        with pytest.raises(UserError, match=words):
            build(wrong, trust=OWN)


def test_nothing_that_a_file_or_a_setting_can_hold_is_the_trust_in_the_own_configuration(mylab):
    for forged in ("OWN", "*", "Own"):
        with pytest.raises(UserError, match="not allowed|trust"):
            build({"_target_": "mylab.nets.Tiny", "width": 1}, trust=[forged])
    assert not mylab.exists()


def test_classes_in_the_working_folder_are_found_when_the_user_names_them(tmp_path, monkeypatch):
    (tmp_path / "beside_us.py").write_text("class Net:\n    pass\n")
    (tmp_path / "broken_beside_us.py").write_text("\n1 / 0\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="trust=beside_us"):
        build({"_target_": "beside_us.Net"})
    assert str(tmp_path) not in sys.path
    for trust in (OWN, ["beside_us"]):
        assert type(build({"_target_": "beside_us.Net"}, trust=trust)).__name__ == "Net"
    with pytest.raises(UserError, match=r"ZeroDivisionError.*broken_beside_us\.py, line 2"):
        build({"_target_": "broken_beside_us.Net"}, trust=OWN)


@pytest.fixture
def install(mylab, tmp_path, monkeypatch):
    """Installs a distribution that has one entry point."""

    def install(value, where=tmp_path):
        folder = where / "mylab-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{allowed_classes.PLUGINS}]\nmylab = {value}\n")
        allowed_classes._plugins.cache_clear()

    yield install
    allowed_classes._plugins.cache_clear()


TINY_NODE = {"_target_": "mylab.nets.Tiny", "width": 4}


def test_a_plugin_registers_its_package(install):
    install("mylab")
    assert build(TINY_NODE, ("network",)).width == 4
    for name in ("mylab.nets.Popen", "mylab.nets.function", "os.system"):
        with pytest.raises(UserError, match="not a class|not allowed"):
            build({"_target_": name})


def test_a_plugin_registers_single_classes_with_their_kind(install, tmp_path):
    (tmp_path / "mylab/plugin.py").write_text("def classes():\n    return {'network': ['mylab.nets.Tiny']}\n")
    install("mylab.plugin:classes")
    assert build(TINY_NODE, ("network",)).width == 4
    with pytest.raises(UserError, match="is of the kind network"):
        build(TINY_NODE, ("sampler",))
    with pytest.raises(UserError, match="not allowed"):
        build({"_target_": "mylab.nets.Path"})


def test_a_plugin_that_cannot_be_loaded_is_named(install):
    install("mylab.nowhere:classes")
    with pytest.raises(UserError, match="plugin mylab.nowhere:classes"):
        build(TINY_NODE)


def test_files_in_the_working_folder_are_no_installed_plugins(install, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    install("mylab")
    with pytest.raises(UserError, match="not allowed"):
        build(TINY_NODE)


def test_how_trust_is_written():
    assert trusted_packages(None) == trusted_packages([]) == trusted_packages(()) == ()
    assert trusted_packages("mylab") == ("mylab",)
    assert trusted_packages("mylab, other") == trusted_packages(["mylab", "other"]) == ("mylab", "other")
    for wrong in ("mylab.nets", "", "a b", 3, {"mylab": 1}, [1], "*"):
        with pytest.raises(UserError, match="trust"):
            trusted_packages(wrong)
    assert compose.listed("trust=a,b") == "trust=[a,b]"
    assert [compose.listed(text) for text in ("trust=a", "trust=[a,b]", "x=a,b", "trust=")] == [
        *("trust=a", "trust=[a,b]", "x=a,b", "trust=")
    ]
