"""The arrows between the folders of the package, read from the imports of every file."""

import ast
from pathlib import Path

import pytest

import ddpm_lightning

ROOT = Path(ddpm_lightning.__file__).parent
#: The folders from the ground up: each may import those before it.
ORDER = (
    "utils",
    "diffusion",
    "networks",
    "metrics",
    "readouts",
    "io",
    "data",
    "simulation",
    "datasets",
    "models",
    "checkpoints",
    "inference",
    "evaluation",
    "reporting",
    "callbacks",
    "training",
    "benchmark",
    "cli",
    "napari",
)
PURE = {"diffusion", "networks"}
FORBIDDEN = {"hydra", "omegaconf", "wandb"}
FILES = sorted(path for folder in ORDER for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows(path):
    folder = path.relative_to(ROOT).parts[0]
    allowed = ORDER[: ORDER.index(folder) + 1]
    for name in imports(path):
        if name.startswith("ddpm_lightning."):
            assert name.split(".")[1] in (*allowed, "__version__"), f"{path} imports {name}"
        if folder in PURE:
            outer = name.split(".")[0]
            standard = {
                "abc",
                "collections",
                "hashlib",
                "itertools",
                "math",
                "typing",
                "dataclasses",
                "functools",
            }
            assert outer in {"torch", "einops", "ddpm_lightning"} | standard, f"{path} imports {name}"
        if folder != "cli":
            assert name.split(".")[0] not in FORBIDDEN, f"{path} imports {name}"


def test_every_folder_is_covered():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_idea_for_each_file(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
