"""Real processes that are killed, stopped, and many: whatever happens, the weights are those of an undisturbed run."""

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from tests.cli.test_resume import assert_rows, assert_same_run, content
from tests.cli.test_verbs import TINY
from tests.end_to_end.test_processes import ddpm_lightning

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = [
    *[setting for setting in TINY if setting != "trainer=cpu"],
    "callbacks.images=null",
    "model.network.dropout=0.2",
    "trainer.log_every_n_steps=1",
]
#: How often a training is killed; raise it by hand for a longer trial.
KILLS = int(os.environ.get("DDPM_LIGHTNING_KILLS", 3))


def begin(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "ddpm_lightning", "train", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(answer):
    assert answer.returncode == 0, answer.stdout + answer.stderr


def assert_same_weights(one, other):
    contents = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (one, other)]
    assert contents[0]["global_step"] == contents[1]["global_step"]
    for kind in ("state_dict", "current_model_state"):
        for name, weight in contents[0][kind].items():
            assert torch.equal(weight, contents[1][kind][name]), (kind, name)


def losses(folder):
    with (folder / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def says(path, words):
    return path.is_file() and words in path.read_text()


def wait_for(condition, process, limit=120):
    end = time.monotonic() + limit
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_run_that_is_killed_again_and_again(pair_folder, tmp_path):
    # Saved at each validation, and every 0.6 s inside of the epochs of 16 steps.
    settings = [
        *SETTINGS,
        "trainer=cpu",
        f"data.root={pair_folder}",
        "data.crops_per_image=16",
        "trainer.max_steps=320",
        "callbacks.preemption.every_minutes=0.01",
    ]
    done(ddpm_lightning("train", *settings, "run_folder=whole", folder=tmp_path))
    rng = random.Random(0)
    part = tmp_path / "part"
    last = part / "checkpoints" / "last.ckpt"
    finished, kills, status = False, 0, part / "status.json"
    while not finished:
        arguments = ["resume=part"] if last.is_file() else [*settings, "run_folder=part"]
        process = begin(tmp_path, *arguments)
        if kills < KILLS:
            wait_for(partial(says, status, f'"process": {process.pid},'), process)
            time.sleep(rng.uniform(0, 3))
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        finished = process.wait() == 0
        assert finished or process.returncode == -signal.SIGKILL, process.stderr.read()
    assert_same_weights(tmp_path / "whole", part)
    assert losses(tmp_path / "whole")[-1] == losses(part)[-1]


def test_two_processes_stop_at_a_signal_and_resume(pair_folder, tmp_path):
    settings = [*SETTINGS, "trainer=ddp_cpu", f"data.root={pair_folder}", "trainer.max_steps=40"]
    done(ddpm_lightning("train", *settings, "run_folder=whole", folder=tmp_path))
    process = begin(tmp_path, *settings, "run_folder=part")
    last = tmp_path / "part" / "checkpoints" / "last.ckpt"
    wait_for(last.is_file, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143, process.stderr.read()
    status = json.loads((tmp_path / "part" / "status.json").read_text())
    assert status["state"] == "interrupted" and 0 < status["step"] < 40
    done(ddpm_lightning("train", "resume=part", folder=tmp_path))
    assert_same_weights(tmp_path / "whole", tmp_path / "part")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "part", "whole"]


def test_two_processes_resume_past_the_best(pair_folder, tmp_path):
    """The rate is so high that the first validation is the best; the run ends steps after the last one."""
    settings = [*SETTINGS, "trainer=ddp_cpu", f"data.root={pair_folder}", "model/lr_schedule=saw_tooth"]
    settings += ["model.optimizer.lr=1.0"]
    for name, steps in (("whole", 22), ("part", 14)):
        done(
            ddpm_lightning(
                "train", *settings, f"trainer.max_steps={steps}", f"run_folder={name}", folder=tmp_path
            )
        )
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert content(part)["global_step"] == 14 and content(part, "best")["global_step"] < 12
    (tmp_path / "elsewhere").mkdir()
    done(ddpm_lightning("train", f"resume={part}", "trainer.max_steps=22", folder=tmp_path / "elsewhere"))
    assert_same_run(whole, part)
    assert_rows(whole, part)


def test_one_process_and_two_have_the_same_losses(pair_folder, tmp_path):
    settings = [setting for setting in SETTINGS if not setting.startswith("model.network.dropout")]
    for name, trainer in (("one", "cpu"), ("two", "ddp_cpu")):
        given = [
            f"trainer={trainer}",
            f"data.root={pair_folder}",
            "trainer.max_steps=20",
            f"run_folder={name}",
        ]
        done(ddpm_lightning("train", *settings, *given, "data.batch_size=8", folder=tmp_path))
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 20 and two == pytest.approx(one, rel=1e-5)


def test_two_nodes_lose_a_process_and_one_resumes(pair_folder, tmp_path):
    """What a cluster does on its machines, here two on one, without GPUs; then one process trains further."""
    settings = [setting for setting in SETTINGS if not setting.startswith("model.network.dropout")]
    settings += ["model/lr_schedule=saw_tooth", f"data.root={pair_folder}", "trainer.max_steps=40"]
    given = ["trainer=multinode", "trainer.num_nodes=2", "trainer.devices=1", "trainer.accelerator=cpu"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
    torchrun += ["--max-restarts", "0", "--rdzv_backend", "c10d", "--rdzv_id", "test"]
    torchrun += ["--rdzv_endpoint", f"localhost:{free_port()}", "-m", "ddpm_lightning", "train"]
    run, log = tmp_path / "run", (tmp_path / "log").open("w+")
    nodes = [
        subprocess.Popen(
            [*torchrun, *settings, *given, "run_folder=run"],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
        for _ in range(2)
    ]
    for node in nodes:
        wait_for((run / "checkpoints" / "last.ckpt").is_file, node, 280)
    killed = json.loads((run / "status.json").read_text())
    assert 0 < killed["step"] < 40
    os.kill(killed["process"], signal.SIGKILL)
    assert all(node.wait(timeout=120) for node in nodes)
    log.seek(0)
    assert "run: has lost one of its processes" in log.read()
    # One process sees the same batches and the same noise from there on.
    done(ddpm_lightning("train", *settings, "trainer=cpu", "run_folder=one", folder=tmp_path))
    fewer = ["trainer.devices=1", "trainer.num_nodes=1"]
    done(ddpm_lightning("train", f"resume={run}", *fewer, folder=tmp_path))
    assert len(losses(run)) == 40 and losses(run) == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
