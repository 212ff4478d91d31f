"""Keeps a CUDA build of torchvision importable beside a CPU build of torch.

Torchvision's wheels on the package index are CUDA builds. Beside a CPU-only torch their compiled operators do not
load, and ``torchvision._meta_registrations`` then fails with *operator torchvision::nms does not exist*. torchmetrics
and Lightning import torchvision whenever it is installed, so they fail with it, although none of them needs the
missing operators here.

The remedy is a lazy import hook: it swallows exactly that error while exactly that module is executed. It imports
nothing by itself, and a healthy torchvision is left untouched.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

MODULE = "torchvision._meta_registrations"
SYMPTOM = "torchvision::nms"


class _TolerantLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self.loader.exec_module(module)
        except RuntimeError as error:
            if SYMPTOM not in str(error):
                raise


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _TolerantLoader(spec.loader)
        return spec


def install() -> None:
    """Puts the hook at the head of ``sys.meta_path``, once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
