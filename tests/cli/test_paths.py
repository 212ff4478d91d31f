"""Paths as a shell gives them: every name means itself, in every verb, in what is recorded and in child processes."""

import json
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from ddpm_lightning.cli.arguments import PATHS, as_typed, quoted
from ddpm_lightning.inference.sources import find_files
from tests.cli.test_verbs import TINY
from tests.conftest import write_pairs
from tests.trained import write_checkpoint

NAMES = (
    *("exp 1 (20x, 50% laser)", "exp=1", "µm 37°C #2", "data [1]", "中文", "a,b", "it's"),
    *(
        "${x}",
        "${a b",
        "$HOME",
        "{}",
        "{a: 1}",
        "~",
        "~nobody_here",
        "~$doc",
        " before",
        "after ",
        '"twice"',
        "'once'",
    ),
    *(
        "*",
        "day?",
        "5",
        "1e3",
        "null",
        "true",
        "nan",
        "a:b",
        "-x",
        "back\\slash",
        "\\${x}",
        "[a,b]",
        "choice(a,b)",
    ),
    *("new\nline", "tab\t", "a'b\"c", "-m", "++x", "@"),
)


def means(verb: str, argument: str, *others: str):
    """Returns what Hydra and OmegaConf make of the value of an argument, or of each value of a sweep."""
    override = OverridesParser.create().parse_override(as_typed(verb, [*others, argument])[-1])
    values = override.sweep_string_iterator() if override.is_sweep_override() else [None]
    if override.is_sweep_override():
        return [means(verb, f"{override.get_key_element()}={value}") for value in values]
    config = OmegaConf.create({"x": "a reference"})
    OmegaConf.update(config, "key", override.value())
    return OmegaConf.to_container(config, resolve=True)["key"]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("'once'", '"twice"', "[a,b]")])
def test_names_that_do_not_exist_mean_themselves(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert means("restore", f"output={name}") == name
    assert means("train", f"+data.root={name}") == name
    assert name == "null" or means("evaluate", f"metrics.lpips.backbone={name}") == name


@pytest.mark.parametrize("name", NAMES)
def test_names_that_exist_win_over_every_other_meaning(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    for verb, keys in PATHS.items():
        for key in keys:
            assert means(verb, f"{key}={name}") == name
    assert means("train", f"data.root={name}", "--multirun") == name
    assert means("evaluate", f"++checkpoint={name}/best.ckpt") == f"{name}/best.ckpt"


def test_any_letters_mean_themselves():
    letters, chosen = "ab \\'\"${}[](),=~*µ中#%!:\n\t.?;&|@^`-+<>0", random.Random(0)
    for _ in range(2000):
        name = "".join(chosen.choices(letters, k=chosen.randint(1, 9)))
        value = OverridesParser.create().parse_override(f"key={quoted(name)}").value()
        config = OmegaConf.create({})
        OmegaConf.update(config, "key", value)
        assert config.key == name


def test_what_is_spelled_as_hydra_wants_it_keeps_its_meaning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text, value in (
        ("input='day1/*.tif'", "day1/*.tif"),
        ('input="a, b"', "a, b"),
        ("input='${x}'", "a reference"),
        ("input=[a.tif,b.tif]", ["a.tif", "b.tif"]),
        ("input=[ a (1).tif , 'b, c.tif',5,null]", ["a (1).tif", "b, c.tif", "5", "null"]),
        ("input=[it's.tif,${x}.tif]", ["it's.tif", "${x}.tif"]),
        ("input=[]", []),
        ("input=", ""),
        ("input=exp\\ 1\\,\\ b", "exp 1, b"),
    ):
        assert means("restore", text) == value
    assert means("train", "run_folder=null") is None and means("train", "data.root=null") == "null"
    assert as_typed("train", ["model=ddpm", "trainer.max_steps=5"]) == ["model=ddpm", "trainer.max_steps=5"]
    assert as_typed("train", ["hydra.sweep.dir=a/${now:%Y}"]) == ["hydra.sweep.dir=a/${now:%Y}"]
    assert as_typed("train", ["hydra.sweep.dir=my sweep (1)"]) == ["hydra.sweep.dir='my sweep (1)'"]


def test_sweeps_over_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert means("train", "data.root=a 1,b (2)", "--multirun") == ["a 1", "b (2)"]
    assert means("train", "data.root='a,1',b", "sweep=dose") == ["a,1", "b"]
    assert means("train", "data.root=choice(a,b)", "-m") == ["a", "b"]
    # A job of a sweep, which is given what Hydra split.
    assert means("train", "data.root='a,1'", "hydra.mode=RUN") == "a,1"
    assert means("train", "data.root=a,1", "hydra.mode=RUN") == "a,1"


def test_a_pattern_below_a_folder_with_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("data [1]/day*", "data [1]/day2", "*"):
        (tmp_path / place).mkdir(parents=True)
        tifffile.imwrite(tmp_path / place / "a.tif", np.ones((16, 16), np.uint8))
    (tmp_path / "[a].tif").write_bytes((tmp_path / "*/a.tif").read_bytes())
    assert [str(one.path) for one in find_files("data [1]/day?/*.tif").sources] == [
        "data [1]/day*/a.tif",
        "data [1]/day2/a.tif",
    ]
    assert [str(one.path) for one in find_files("data [1]/day*/*.tif").sources] == ["data [1]/day*/a.tif"]
    assert [str(one.path) for one in find_files("*").sources] == ["*/a.tif"]
    assert [str(one.path) for one in find_files("[a].tif").sources] == ["[a].tif"]
    assert [str(one.path) for one in find_files("**/day2/*.tif").sources] == ["data [1]/day2/a.tif"]
    assert [str(one.path) for one in find_files(f"{tmp_path}/data*/day2/a.*").sources] == [
        f"{tmp_path}/data [1]/day2/a.tif"
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.mark.parametrize("name", [*NAMES[:7], "${x}", "~nobody_here", " a ", "5", "null", "*", "'once'"])
def test_restore_reads_and_writes_folders_of_any_name(command, model, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (name, f"out/{name}", f"models/{name}"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(model, tmp_path / "models" / name / "best.ckpt")
    image = np.random.default_rng(0).poisson(30, (16, 16)).astype(np.uint16)
    tifffile.imwrite(tmp_path / name / "a.tif", image)
    checkpoint, output = f"checkpoint=models/{name}/best.ckpt", f"output=out/{name}"
    answer = command("restore", checkpoint, f"input={name}", output, "preset=stored", "samples=2")
    assert answer.code == 0, answer.err
    record = json.loads((tmp_path / "out" / name / "restore.json").read_text())
    assert record["settings"]["input"] == name and record["settings"]["output"] == f"out/{name}"
    assert record["model"]["file"] == f"models/{name}/best.ckpt"
    assert tifffile.imread(tmp_path / "out" / name / "a.tif").shape == (16, 16)
    assert f"models/{name}/best.ckpt" in command("show", f"models/{name}/best.ckpt").out


def test_a_run_in_a_folder_of_any_name_is_trained_scored_and_resumed(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "exp 1 (20x, 50% laser) [2] ${x}, it's = µ"
    pairs = write_pairs(tmp_path / name / "pairs", size=32)
    run = f"runs/{name}"
    given = (f"run_folder={run}", f"data.root={name}/pairs", "trainer.max_steps=2")
    answer = command("train", *TINY, *given, "callbacks.images.images=1")
    assert answer.code == 0, answer.err
    config = yaml.safe_load((tmp_path / run / "config.yaml").read_text())
    assert config["run_folder"] == run and config["data"]["root"] == f"{name}/pairs"
    assert config["callbacks"]["checkpoint"]["dirpath"] == f"{run}/checkpoints"
    assert (tmp_path / run / "checkpoints" / "best.ckpt").is_file() and (
        tmp_path / run / "metrics.csv"
    ).is_file()
    answer = command("train", f"resume={run}", "trainer.max_steps=4")
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / run / "status.json").read_text())["step"] == 4
    pairs.rename(tmp_path / "elsewhere, (2)")
    given = (f"output={run}/scores", "data=folder", "data.root=elsewhere, (2)", "samples=2", "figures=0")
    answer = command("evaluate", f"checkpoint={run}/checkpoints/best.ckpt", *given)
    assert answer.code == 0, answer.err
    summary = json.loads((tmp_path / run / "scores" / "summary.json").read_text())
    assert summary["checkpoint"]["file"] == f"{run}/checkpoints/best.ckpt"
    shutil.copytree(tmp_path / run / "scores", tmp_path / "b, (2)")
    assert command("report", f"{run}/scores", f"output=pages {name}.html").code == 0
    assert (tmp_path / f"pages {name}.html").is_file()
    assert command("compare", f"{run}/scores", "b, (2)", "names=[a,b]", f"output=tables {name}").code == 0
    assert (tmp_path / f"tables {name}" / "comparison.md").is_file()


@pytest.mark.slow
def test_the_other_process_of_a_run_sees_the_same_names(tmp_path):
    write_pairs(tmp_path / "a, (b) ${x}", size=32)
    given = ["trainer=ddp_cpu", "trainer.max_steps=2", "data.root=a, (b) ${x}", "run_folder=run [1], it's"]
    command = [sys.executable, "-m", "ddpm_lightning", "train", *TINY, *given, "callbacks.images.images=1"]
    command.remove("trainer=cpu")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    status = json.loads((tmp_path / "run [1], it's" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("finished", 2)
