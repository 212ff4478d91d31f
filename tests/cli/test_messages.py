"""What the user is told: the last line, how an interrupted command is resumed, what ended a run, how long it takes."""

import io
import json
import os
import shlex
import signal
import sys
import time

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from ddpm_lightning.cli import evaluate, prepare
from ddpm_lightning.inference import restore_folder as jobs
from ddpm_lightning.reporting import report_file
from ddpm_lightning.training.config_file import read_config
from ddpm_lightning.utils.errors import Interrupted, UserError
from ddpm_lightning.utils.progress import Remaining, so_far
from ddpm_lightning.utils.subprocesses import run_command
from ddpm_lightning.utils.tile_progress import Meter
from tests.cli.test_verbs import TINY
from tests.trained import write_checkpoint

SMALL = ["preset=stored", "samples=2", "margin=0"]


@pytest.fixture
def noisy(tmp_path):
    folder = tmp_path / "no isy"
    folder.mkdir()
    for name in "abcd":
        image = np.random.default_rng(0).poisson(30, (16, 16)).astype(np.uint16)
        tifffile.imwrite(folder / f"{name}.tif", image)
    return folder


@pytest.fixture
def given(noisy, tmp_path):
    model = write_checkpoint(tmp_path / "best.ckpt")
    return ["restore", f"checkpoint={model}", f"input={noisy}", f"output={tmp_path}/out", *SMALL]


def test_the_last_line_counts_what_was_done_without_being_asked_for(tmp_path):
    notes = [("left_aside", 2), ("clipped", 30), ("replaced", 5), ("clipped", 1)]
    notes = [{"kind": kind, "count": count, "text": "x"} for kind, count in notes]
    records = [
        {"notes": notes[:2], "warnings": ["x"]},
        {"notes": notes[2:], "warnings": ["x"]},
        {"error": "y"},
    ]
    line = str(jobs.RestoredFolder(tmp_path, records))
    assert line.startswith("2 of 3 files restored, 1 skipped, 2 with warnings, 2 items ignored, ")
    assert "5 pixels replaced, 31 pixels clipped; details in " in line
    assert str(jobs.RestoredFolder(tmp_path, [{"notes": []}])) == "1 of 1 file restored, no warnings"


def test_png_files_beside_the_images_are_in_the_last_line(command, given, noisy):
    for name in ("a.png", "b.PNG", "c.jpg"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(noisy / name)
    answer = command(*given)
    assert "4 of 4 files restored" in answer.out.splitlines()[-1]
    assert ", 3 items ignored" in answer.out.splitlines()[-1], answer.out


def test_an_interrupted_restoration_says_what_is_kept_and_how_to_resume(
    command, given, tmp_path, monkeypatch
):
    inner, seen = jobs.restore_file, []

    def stop(restorer, source, *others):
        seen.append(source)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return inner(restorer, source, *others)

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "restore_file", stop)
        answer = command(*given)
    assert answer.code == 130
    assert f"2 of 4 files are restored and kept in {tmp_path}/out" in answer.err
    resume = answer.err.strip().splitlines()[-1].partition("resume with: ")[2]
    assert shlex.split(resume) == ["ddpm-lightning", *given]
    answer = command(*shlex.split(resume)[1:])
    assert answer.code == 0 and "2 of 4 files were finished before" in answer.out


@pytest.mark.parametrize(
    ("where", "says"), [("load_restorer", "no file was restored yet"), ("restore_file", "none of 4 files")]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_restoration_that_finished_nothing_says_so(command, given, monkeypatch, where, says, number):
    def stop(*arguments):
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(jobs, where, stop)
    answer = command(*given)
    assert answer.code == 128 + number and says in answer.err and "kept" not in answer.err
    assert "ddpm-lightning restore" in answer.err


@pytest.mark.parametrize("verb", ["evaluate", "prepare"])
def test_other_verbs_say_what_an_interruption_leaves(command, tmp_path, monkeypatch, pair_folder, verb):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        *{"evaluate": (evaluate, "evaluate_into_folder"), "prepare": (prepare, "prepare")}[verb], stop
    )
    monkeypatch.chdir(tmp_path)
    given = ["checkpoint=best.ckpt"] if verb == "evaluate" else ["data=folder", f"data.root={pair_folder}"]
    answer = command(verb, *given)
    assert answer.code == 130 and answer.err.endswith(f"with: ddpm-lightning {verb} {' '.join(given)}\n")
    assert {"evaluate": "no results were written", "prepare": "are kept"}[verb] in answer.err


def test_a_command_gets_a_signal_once_and_may_finish(tmp_path):
    child = (
        "import signal, sys, time, pathlib; place = pathlib.Path(sys.argv[1]); count = []\n"
        "signal.signal(signal.SIGINT, lambda *_: count.append(1)); (place / 'ready').touch()\n"
        "while not count: time.sleep(0.01)\n"
        "time.sleep(0.7); (place / 'saved').write_text(str(len(count)))"
    )
    waiting = (
        "import os, signal, sys, time, pathlib\n"
        "while not pathlib.Path(sys.argv[1], 'ready').exists(): time.sleep(0.01)\n"
        "os.kill(int(sys.argv[2]), signal.SIGINT)"
    )
    os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", waiting, str(tmp_path), str(os.getpid())])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="what is kept") as stopped:
        run_command([sys.executable, "-c", child, str(tmp_path)], os.environ, "what is kept")
    assert stopped.value.code == 130 and (tmp_path / "saved").read_text() == "1"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_a_run_that_is_ended_by_its_time_says_so_and_is_resumed(command, pair_folder, tmp_path):
    run = tmp_path / "ru n"
    times = ["+trainer.max_time=00:00:00:01", "trainer.max_steps=100000", "callbacks.images=null"]
    answer = command("train", *TINY, f"data.root={pair_folder}", f"run_folder={run}", *times)
    assert answer.code == 0, answer.err
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "finished" and status["ended"] == "after 00:00:00:01 (trainer.max_time)"
    said = f"stopped {status['ended']} at step {status['step']} of 100000; resume with: "
    assert said in answer.out and f"ddpm-lightning train 'resume={run}'" in answer.out
    assert status["ended"] in command("show", f"run_folder={run}").out
    last = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    packed = tmp_path / "packed.safetensors"
    best = f"checkpoint={run}/checkpoints/best.ckpt"
    assert command("export", best, f"output={packed}", "authors=[A. Scientist]").code == 0
    for subject in (run, packed):
        assert (
            f"training       {last} of 100000 steps of 4 crops" in command("show", f"subject={subject}").out
        )
    answer = command("train", f"resume={run}", "trainer.max_time=20")
    assert answer.code == 2 and "trainer.max_time=20" in answer.err and "DD:HH:MM:SS" in answer.err
    answer = command("train", f"resume={run}")
    again = json.loads((run / "status.json").read_text())
    assert answer.code == 0 and again["step"] > status["step"], answer.err
    assert f"stopped {status['ended']}" in answer.out and "the run is at step" not in answer.out
    changes = [f"trainer.max_steps={again['step']}", "+trainer.max_time=00:00:20:00"]
    answer = command("train", f"resume={run}", *changes)
    assert read_config(run / "config.yaml")["trainer"]["max_time"] == "00:00:20:00"
    assert answer.code == 0 and "stopped after" not in answer.out
    assert f"the run is at step {again['step']}; trainer.max_steps=N" in answer.out
    assert "ended" not in json.loads((run / "status.json").read_text())


def test_show_takes_the_keys_of_other_verbs(command, tmp_path):
    model = write_checkpoint(tmp_path / "m, (1)" / "best.ckpt")
    for given in (str(model), f"subject={model}", f"checkpoint={model}"):
        answer = command("show", given)
        assert answer.code == 0 and answer.out.startswith(str(model)), answer


def test_an_estimate_is_there_after_the_first_step():
    bar = Progress()
    bar.add_task("x", total=4), bar.add_task("x", total=100, completed=98, first=96)
    task, resumed = bar.tasks
    assert Remaining().render(task).plain == "-:--:--"
    task.start_time, task.completed = bar.get_time() - 10, 1
    assert Remaining().render(task).plain == "0:00:30"
    resumed.start_time = bar.get_time() - 10
    assert Remaining().render(resumed).plain == "0:00:10"
    assert (
        so_far(0, 4, 5) == "0 % after 0:00:05"
        and so_far(1, 4, 3700) == "25% after 1:01:40, about 3:05:00 left"
    )


def test_lines_where_there_is_no_terminal_and_a_bar_where_there_is_one(capsys):
    counters = torch.zeros(1, dtype=torch.int64)
    with Meter(8, counters, every=0.2) as meter:
        for name in meter.over(("a [1].tif", "b"), 4):
            meter.name(name)
            meter.count(2)
            time.sleep(0.5)
    lines = capsys.readouterr().out.splitlines()
    assert 3 <= len(lines) <= 5 and lines[0].startswith(
        "restoring a [1].tif: 25% after 0:00:00, about 0:00:01 left"
    )
    assert lines[-1].startswith("restoring b: 75%") and int(counters) == 8
    screen = io.StringIO()
    meter = Meter(8, counters.zero_())
    meter.live.console = Console(file=screen, force_terminal=True, width=80)
    meter.disable, meter._lines = False, None
    with meter:
        meter.expect(4)
        meter.count(2)
        time.sleep(0.3)
    assert "25%" in screen.getvalue()


def test_a_report_takes_a_name_with_or_without_its_ending_or_a_folder(tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "scores.csv").write_text("mine")
    for given, page in (
        ("a.html", "a.html"),
        ("a.HTM", "a.HTM"),
        ("a", "a.html"),
        ("v1.2 (b)", "v1.2 (b).html"),
        ("pages", "pages/report.html"),
        ("new/a", "new/a.html"),
    ):
        assert report_file._output(tmp_path / given) == tmp_path / page
    with pytest.raises(UserError, match="not an HTML page"):
        report_file._output(tmp_path / "scores.csv")


def test_a_plan_and_the_run_name_what_is_left_out(command, given, noisy):
    (noisy / "broken.tif").write_bytes(b"II*\0")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(noisy / "shot.png")
    (noisy / "old").mkdir()
    tifffile.imwrite(noisy / "old" / "e.tif", np.eye(16, dtype=np.uint8))
    for more, code in ((["plan=true"], 0), (["samples=1"], 3)):
        answer = command(*given, *more)
        said = answer.out + answer.err
        assert answer.code == code and "broken.tif" in said, answer
        assert "1 .png file" in said and "1 folder with images" in said


def test_a_png_file_by_name_is_refused_as_in_a_folder(command, given, noisy):
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(noisy / "shot.png")
    answer = command(*given, f"input={noisy}/shot.png")
    assert answer.code == 2 and "grey values" in answer.err and "Save As > Tiff" in answer.err


def test_few_samples_have_hardly_an_entropy(command, given, noisy, tmp_path):
    answer = command(*given, f"input={noisy}/a.tif", "entropy=true")
    assert answer.code == 0 and "entropy of 2 samples" in answer.out
    entropy = tifffile.imread(tmp_path / "out" / "a_entropy.tif")
    assert not np.signbit(entropy).any() and entropy.max() <= np.log(2) + 1e-6
