"""The examples of ``docs/extend.md``, run as they are from an empty folder, only shorter."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("blank_figures")
PAGE = Path(__file__).parents[1] / "docs" / "extend.md"
SHORT = {
    "train": ["trainer.max_steps=3", "data.crop=32", "data.batch_size=2", "callbacks.images.crop=64"],
    "evaluate": ["limit=2", "samples=2", "figures=0"],
    "restore": ["samples=1"],
    "benchmark": [
        "budget.steps=8",
        "evaluate=['samples=2','figures=0']",
        "center_crop=64",
        "train=['trainer=cpu','data.batch_size=2']",
        *(f"~sets.{name}" for name in ("mitochondria", "synapses", "zebrafish")),
        "sets.microtubules=['data=simulated_microtubules','data.counts={train:4,val:2,test:2}','data.size=64']",
    ],
}
SIMULATED = ["data.counts={train:4,val:2,test:2}", "data.size=64"]


def section(title: str) -> list[tuple[str, str]]:
    """Returns the language and the text of each block below a heading."""
    text = PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def follow(command, tmp_path, monkeypatch):
    """Does what a section says: writes its files and runs its commands; returns what they print."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def follow(title):
        said = []
        for language, text in section(title):
            if language in ("python", "yaml"):
                path = tmp_path / text.split("\n")[0].removeprefix("# ")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                continue
            for line in text.splitlines():
                verb, *rest = shlex.split(line)[1:]
                short = SHORT[verb] if not any(part.startswith("resume=") for part in rest) else []
                if verb == "train" and short and "data=spots" not in rest:
                    short = [*short, *SIMULATED]
                answer = command(verb, *rest, *short)
                assert answer.code == 0, (line, answer.out, answer.err)
                said.append(answer.out)
        return said

    yield follow
    for name in set(sys.modules) - before:
        if name in ("mynet", "mydata", "mymethod", "myextras"):
            del sys.modules[name]


@pytest.mark.slow
def test_an_own_network(follow, command, tmp_path):
    follow("A network in the diffusion model")
    assert (tmp_path / "restored").is_dir()
    checkpoint = "runs/tiny/checkpoints/best.ckpt"
    for arguments in (
        ["restore", f"checkpoint={checkpoint}", "input=example", "output=b"],
        ["train", "resume=runs/tiny", "trainer.max_steps=5"],
        ["train", f"finetune={checkpoint}", "run_folder=c"],
        # The user's own classes are trusted, those of the file still are not.
        ["train", f"finetune={checkpoint}", "+callbacks.own._target_=mynet.TinyNet", "run_folder=c"],
        ["show", checkpoint],
    ):
        answer = command(*arguments)
        assert answer.code == 2 and "trust=mynet" in answer.err, (arguments, answer)
    assert not (tmp_path / "b").exists() and not (tmp_path / "c").exists()


@pytest.mark.slow
def test_an_own_data_set(follow, command, tmp_path):
    follow("A data set")
    first, second = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("scores", "scores_again")
    )
    assert first["estimators"] == second["estimators"] and first["data"] == "spots"
    answer = command("evaluate", "checkpoint=runs/spots/checkpoints/best.ckpt", "output=c")
    assert answer.code == 2 and "trust=mydata" in answer.err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_own_method(follow, tmp_path):
    follow("A method")
    assert (tmp_path / "restored_residual").is_dir() and (tmp_path / "scores_residual/summary.json").is_file()
    assert "residual" in (tmp_path / "table/table.md").read_text()


def test_an_own_metric_and_callback(follow, tmp_path):
    (said,) = follow("A metric, a callback")
    assert "ends at step 3" in said
    assert "val/bias" in (tmp_path / "runs/extras/metrics.csv").read_text()
