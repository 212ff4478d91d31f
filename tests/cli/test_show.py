"""The card of a run and of a checkpoint, and where a run comes from."""

import json
import subprocess
from types import SimpleNamespace

import pytest
import torch

from ddpm_lightning.training.provenance import data_hash, provenance
from tests.cli.test_verbs import TINY
from tests.trained import write_checkpoint


def test_a_run_shows_its_provenance(command, pair_folder, tmp_path):
    settings = [*TINY, "callbacks.images=null", f"data.root={pair_folder}", "trainer.max_steps=2", "seed=7"]
    assert command("train", *settings, "run_folder=run").code == 0
    origin = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert (
        origin["seed"] == 7
        and "seed=7" in origin["command"]
        and origin["versions"]["torch"] == torch.__version__
    )
    assert origin["data"] == data_hash({"root": str(pair_folder)})
    kept = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["card"]["provenance"] == origin
    for subject in ("run", "subject=run", "run/checkpoints/last.ckpt"):
        answer = command("show", subject)
        assert answer.code == 0, answer.err
        for words in (
            "ddpm_small (",
            f"pairs in {pair_folder}",
            "2 steps of 4 crops of 32 px, seed 7",
            "Percentile",
            "finished at step 2 after",
            "seed=7",
            origin["data"]["sha256"],
            "none yet: ddpm-lightning evaluate",
        ):
            assert words in answer.out, words


def test_a_run_that_ended_early_says_so(command, tmp_path):
    write_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    state = {"state": "finished", "step": 67, "steps": 200, "seconds": 60.2}
    (tmp_path / "run" / "status.json").write_text(json.dumps(state))
    assert "stopped at step 67 of 200 after 60 s" in command("show", tmp_path / "run").out


def test_a_checkpoint_alone_and_its_scores(command, tmp_path):
    path = write_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    scores = {
        "average": {"psnr": {"median": 24.5, "mean": 24.0}, "lpips": None, "absent": {"lpips": "no backbone"}}
    }
    summary = {"images": 8, "split": "test", "protocol": "range", "estimators": scores}
    (tmp_path / "run" / "evaluation").mkdir()
    (tmp_path / "run" / "evaluation" / "summary.json").write_text(json.dumps(summary))
    answer = command("show", path)
    assert answer.code == 0, answer.err
    assert "8 images of test, protocol range" in answer.out and "psnr 24.5 (medians)" in answer.out
    assert "low 0, high 100" in answer.out


@pytest.mark.parametrize(
    ("subject", "words"), [("nothing", "no such file"), (".", "contains no checkpoints/best.ckpt")]
)
def test_what_has_no_card(command, subject, words):
    answer = command("show", subject)
    assert answer.code == 2 and words in answer.err


def test_the_hash_follows_the_data(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"1")
    before = data_hash({"root": str(tmp_path)})
    (tmp_path / "a.tif").write_bytes(b"12")
    after = data_hash({"root": str(tmp_path)})
    assert before["of"] == "names and sizes of files" and before != after
    (tmp_path / "manifest.json").write_text("{}")
    found = data_hash({"root": str(tmp_path)})
    # sha256 of "{}"
    assert found == {
        "of": "manifest.json",
        "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    }
    assert data_hash({"seed": 1}) != data_hash({"seed": 2})


def test_the_commit_is_that_of_the_checkout():
    found = provenance(SimpleNamespace(resume=None, seed=0, data={}))["commit"]
    if found is not None:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
        assert found.rstrip("+") == head or not head


def test_a_card_cannot_speak_to_the_terminal(command, tmp_path):
    path = write_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)
    odd = "\x1b[2J\u202eodd\nnext            rm -rf /"
    content["card"]["names"] = {"model": odd, "data": odd}
    content["card"]["about"] = {"name": odd, "description": odd, "authors": [odd], "cite": {odd: odd}}
    content["card"]["data"]["root"] = odd
    content["card"]["provenance"] = {
        **{"began": odd, "machine": {"name": odd}, "command": [odd], "commit": odd},
        "versions": {"ddpm_lightning": odd, "torch": odd, "lightning": odd},
        "data": {"sha256": odd, "of": odd},
    }
    torch.save(content, path)
    answer = command("show", path)
    assert answer.code == 0 and r"\x1b[2J\u202eodd\nnext" in answer.out, answer
    assert not {"\x1b", "\u202e"} & set(answer.out)
    assert not [line for line in answer.out.splitlines() if line.strip().startswith("next")]


@pytest.mark.parametrize(
    "change",
    [
        {"provenance": {"versions": 3}},
        {"provenance": {"began": []}},
        {"about": {"authors": 3}},
        {"about": {"cite": [1]}},
        {"config": {"trainer": {"max_steps": 3}}},
        {"config": {"trainer": "x"}},
    ],
)
def test_a_card_that_is_damaged_is_said_to_be(command, tmp_path, change):
    path = write_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "card": {**content["card"], **change}}, path)
    answer = command("show", path)
    assert answer.code == 2 and "a.ckpt" in answer.err and "is damaged" in answer.err
