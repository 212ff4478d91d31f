"""What README and docs/ tell the reader to type works: every command and every piece of Python in them."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ddpm_lightning.cli import compose
from ddpm_lightning.utils.errors import UserError
from tests.command import call
from tests.conftest import write_pairs
from tests.test_layering import ORDER
from tests.trained import TINY, write_checkpoint

ROOT = Path(__file__).parents[1]
PAGES = [
    *(
        ROOT / "docs" / f"{name}.md"
        for name in ("train", "scores", "restore", "python", "default", "napari", "numbers")
    ),
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
]
#: Pages with commands for clusters, which are checked and not run.
CHECKED = [*PAGES, ROOT / "docs" / "scale.md"]
pytestmark = pytest.mark.usefixtures("blank_figures")
TYPED = re.compile(r"^ddpm-lightning (.*?)(?:  +#.*)?$", re.MULTILINE)
#: Trainings shrink to a few steps of a tiny network, evaluations to one sample.
SMALLER = {
    "train": [*TINY, "trainer.max_steps=2", "data.batch_size=2", "data.fit_images=2", "~callbacks.images"],
    "evaluate": ["samples=2", "sampler.steps=2", "limit=2", "figures=1", "level=0.5"],
    "restore": ["samples=2"],
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    return [shlex.split(line) for block in blocks(page, "bash") for line in TYPED.findall(block)]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder in which the reader works: images, pairs, a trained model."""
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "my_data")
    write_pairs(tmp_path / "my_noisy")
    for split in ("train", "val", "test"):
        shutil.rmtree(tmp_path / "my_noisy" / split / "high")
    write_checkpoint(tmp_path / "runs/mine/checkpoints/best.ckpt", per_image=True)
    (tmp_path / "noisy").mkdir()
    tifffile.imwrite(
        tmp_path / "noisy/a.tif", np.random.default_rng(0).poisson(20, (40, 48)).astype(np.uint16)
    )
    planes = np.random.default_rng(1).poisson(20, (2, 40, 48)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    return tmp_path


def test_commands_are_found():
    assert len(commands(ROOT / "README.md")) >= 5


@pytest.mark.parametrize("page", CHECKED, ids=lambda page: page.stem)
def test_every_command_has_settings_that_exist(page):
    with pytest.raises(UserError):
        compose.check("train", ["no_such_setting=1"])
    for verb, *settings in commands(page):
        if verb in ("compare", "report", "show", "demo"):
            continue  # they take files, not settings
        compose.check(verb, settings)


@pytest.mark.parametrize("page", CHECKED, ids=lambda page: page.stem)
def test_every_file_that_is_linked_is_there(page):
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_contribution_guide_names_what_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= {*targets}
    paths = re.findall(r"`([\w.]+/[\w./]*)`|pytest ([\w/.]+)", text)
    for path in {"".join(found) for found in paths} - {""}:
        pattern = path.rstrip("/").replace("NAME", "*")
        assert any(any(root.glob(pattern)) for root in (ROOT, ROOT / "ddpm_lightning")), path
    assert tuple(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == ORDER


def test_the_first_commands_of_the_readme_work(desk, capsys, monkeypatch):
    for verb, *settings in commands(ROOT / "README.md")[:2]:
        answer = call(verb, *settings, capsys=capsys, monkeypatch=monkeypatch)
        assert answer.code == 0, (settings, answer.err)
    restored, std = (tifffile.imread(path) for path in sorted((desk / "restored").glob("*.tif")))
    assert (
        restored.dtype == np.uint16 and std.dtype == np.float32 and restored.shape == std.shape == (256, 256)
    )
    assert (desk / "restored_noisy" / "a.tif").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem
)
def test_the_python_runs(page, desk):
    """As it is written, only with fewer steps."""
    noisy = tifffile.imread(desk / "noisy/a.tif")
    names = {"noisy": noisy, "stack": np.stack([noisy] * 2)[:, None, None]}
    for block in blocks(page, "python"):
        exec(compile(re.sub(r"max_steps=\d+", "max_steps=2", block), str(page), "exec"), names)
    assert names["restored"].mean.shape == noisy.shape and names["volume"].mean.shape == names["stack"].shape


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_works(desk, capsys, monkeypatch):
    """In the order of the pages, each once; the demo and sweeps, of two runs here, have tests of their own."""
    typed = {tuple(command): None for page in PAGES for command in commands(page)}
    for verb, *settings in typed:
        if verb in ("demo", "benchmark") or "sweep=learning_rate_width" in settings:
            continue
        if verb == "restore" and settings in [command[1:] for command in commands(ROOT / "README.md")[:2]]:
            continue  # in the test above
        if any(setting.startswith("readout=") for setting in settings):
            continue  # in tests/inference/test_readouts.py, with enough images to calibrate on
        if "run_folder=runs/mine" in settings:
            shutil.rmtree("runs/mine")
        smaller = SMALLER.get(verb, [])
        # Its networks are those of the file, or its method must be the one that is named.
        if any(setting.startswith(("finetune=", "model=noise2void")) for setting in settings):
            smaller = [setting for setting in smaller if not setting.startswith("model")]
        if {*settings} & {"checkpoint=default", "checkpoint=runs/tuned/checkpoints/best.ckpt"}:  # no sampler
            smaller = [setting for setting in smaller if not setting.startswith("sampler.")]
        if "--multirun" in settings:
            smaller = [*smaller, "data.counts={train:4,val:2,test:2}", "data.size=64"]
        answer = call(verb, *settings, *smaller, capsys=capsys, monkeypatch=monkeypatch)
        assert answer.code == 0, (verb, settings, answer.err)
        if "output=evaluations/mine" in settings:
            shutil.copytree("evaluations/mine", "evaluations/care")
