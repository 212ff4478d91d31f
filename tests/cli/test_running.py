"""Who has a folder, at the command line: refused ones are told, and what another machine runs is not called killed."""

import json
from dataclasses import asdict, replace

import pytest

from ddpm_lightning.training.run_folder import state_of
from ddpm_lightning.utils import lock
from ddpm_lightning.utils.lock import NAME, holder
from tests.cli.test_verbs import TINY
from tests.trained import write_checkpoint


def elsewhere(folder):
    """Puts the record of a process on another machine into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = replace(lock._myself(), host="cluster-7", boot="b", token="0" * 16)
    (folder / NAME).write_text(json.dumps(asdict(owner)))
    return owner


@pytest.fixture
def verbs(pair_folder, tmp_path):
    """Commands that write to the folder ``out``."""
    checkpoint, out = write_checkpoint(tmp_path / "model.ckpt"), tmp_path / "out"
    scored = [f"checkpoint={checkpoint}", "samples=2", "sampler.steps=1", f"output={out}"]
    steps = ["callbacks.images=null", "trainer.max_steps=2", f"run_folder={out}"]
    return {
        "train": ["train", *TINY, f"data.root={pair_folder}", *steps],
        "resume": ["train", f"resume={out}"],
        "restore": ["restore", f"input={pair_folder}/test/low", *scored],
        "evaluate": ["evaluate", "data=folder", f"data.root={pair_folder}", "limit=1", "figures=0", *scored],
        "prepare": ["prepare", "data=folder", f"data.root={pair_folder}", "check=true", f"output={out}"],
        "benchmark": ["benchmark", f"folder={tmp_path}/cells", f"output={out}"],
    }


@pytest.mark.parametrize("verb", ["train", "resume", "restore", "evaluate", "prepare", "benchmark"])
def test_the_folder_of_another_machine_is_refused(command, verbs, tmp_path, verb):
    out = tmp_path / "out"
    owner = elsewhere(out)
    answer = command(*verbs[verb])
    assert answer.code == 2 and "Traceback" not in answer.err
    assert all(
        part in answer.err for part in (str(out), "cluster-7", f"process {owner.process}", "force=true")
    )
    assert holder(out) == owner and [path.name for path in out.iterdir()] == [NAME]


@pytest.mark.parametrize("verb", ["train", "restore", "prepare"])
def test_force_takes_it_and_says_so(command, verbs, tmp_path, verb):
    elsewhere(tmp_path / "out")
    answer = command(*verbs[verb], "force=true")
    assert answer.code in (0, 3) and "taken over from process" in answer.err and "cluster-7" in answer.err
    assert holder(tmp_path / "out") is None
    assert verb != "train" or "\nforce:" not in (tmp_path / "out" / "config.yaml").read_text()


def test_the_state_of_a_run(tmp_path):
    def says(**status):
        (tmp_path / "status.json").write_text(json.dumps(status))
        return state_of(tmp_path)

    gone = {"process": 2**22 + 1}
    assert says(state="finished", **gone) == "finished"
    assert says(state="running", **gone) == "killed" == says(state="running", machine=lock._here()[0], **gone)
    assert says(state="running", machine="cluster-7", **gone) == "running on cluster-7"
    elsewhere(tmp_path)
    assert says(state="running", **gone) == "running on cluster-7"
    (tmp_path / NAME).unlink()
    with lock.hold(tmp_path):
        assert says(state="running", **gone) == "running"
