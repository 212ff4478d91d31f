"""Runs on W&B without a network, read back with W&B's own records; and a service that answers with errors."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from ddpm_lightning.callbacks.panels import captioned
from ddpm_lightning.callbacks.wandb_log import WandbLog, sweep_tags
from tests.cli.test_verbs import TINY
from tests.command import call

wandb = pytest.importorskip("wandb")
from tests import wandb_reader  # noqa: E402

SETTINGS = [
    *TINY,
    "trainer.log_every_n_steps=1",
    "callbacks.images.budget=1",
    "callbacks.images.figure_every_n_epochs=1",
    "callbacks.images.lpips=false",
]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """W&B and Lightning keep what they were told in the process and its environment."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    wandb.teardown()


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call(*arguments, capsys=capsys, monkeypatch=monkeypatch)


def files(folder):
    wandb.teardown()  # what is still in memory goes to the disk
    return sorted(
        (folder / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns
    )


@pytest.mark.slow
def test_a_run_is_one_run_with_all_that_it_logged(command, pair_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_LIGHTNING_SWEEP", "widths")
    monkeypatch.setenv("DDPM_LIGHTNING_JOB", json.dumps(["seed=3", "model.network.base=8"]))
    given = [f"data.root={pair_folder}", "run_folder=run", "logger=wandb_offline", "seed=3"]
    answer = command("train", *SETTINGS, *given, "trainer.max_steps=12")
    assert answer.code == 0, answer.err
    assert command("train", "resume=run", "trainer.max_steps=20").code == 0
    first, second = files(tmp_path / "run")
    runs = [wandb_reader.run(path) for path in (first, second)]
    assert runs[0].run_id == runs[1].run_id == json.loads((tmp_path / "run/wandb.json").read_text())["id"]
    assert runs[0].run_group == "widths" and list(runs[0].tags) == ["seed=3", "model.network.base=8"]
    config = wandb_reader.config(first)
    assert (
        config["seed"] == 3
        and config["model"]["network"]["base"] == 8
        and config["names"]["model"] == "ddpm_small"
    )

    rows = wandb_reader.history(first) + wandb_reader.history(second)
    steps = [row["_step"] for row in rows]
    assert steps == list(range(20)), "one row for each step, never back"
    # An epoch has 4 batches of 4 images, and a validation.
    assert [row["images"] for row in rows] == [4 * (step + 1) for step in steps]
    assert all(0 < row["train/loss"] < 10 for row in rows)
    validated = [row for row in rows if "val/loss" in row]
    assert [row["images"] for row in validated] == [16, 32, 48, 64, 80]
    for row in validated:
        captions = row["panels.captions"] if "panels.captions" in row else row["panels"]["captions"]
        assert len(captions) == 10 and captions[0] == "image 0: low" and "std" in captions[3]
        assert "PSNR" in captions[1] and "PSNR" in captions[2]
    media = first.parent / "files" / "media"
    assert len(list((media / "images").rglob("*.png"))) == 30
    table = json.loads(next((media / "table").glob("*.json")).read_text())
    assert table["columns"][:3] == ["step", "image", "estimator"] and len(table["data"]) == 4
    psnr = np.mean([row[table["columns"].index("psnr")] for row in table["data"] if row[2] == "average"])
    logged = {row["_step"] + 1: row["val/psnr"] for row in validated}
    assert psnr == pytest.approx(logged[table["data"][0][0]], rel=1e-5)


@pytest.mark.slow
def test_a_service_that_answers_with_errors_stops_nothing(command, pair_folder, tmp_path, monkeypatch):
    class Broken(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(500)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    given = [f"data.root={pair_folder}", "run_folder=run", "logger=wandb", "+logger.wandb.patience=5"]
    answer = command("train", *TINY, *given, "callbacks.images=null", "trainer.max_steps=4")
    server.shutdown()
    assert answer.code == 0, answer.err
    assert "cannot be reached" in answer.out
    assert any("val/loss" in row for row in wandb_reader.history(files(tmp_path / "run")[0]))


def test_without_a_key_a_run_is_logged_offline(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    log = WandbLog(str(tmp_path / "run"), patience=5, images_per_step=8)
    log.log_metrics({"loss": 1.0}, 2)
    log.finalize("success")
    assert "cannot be reached" in capsys.readouterr().out
    (row,) = wandb_reader.history(files(tmp_path / "run")[0])
    assert (row["_step"], row["images"], row["loss"]) == (2, 24, 1.0)


def test_tags_fit(monkeypatch):
    monkeypatch.setenv("DDPM_LIGHTNING_JOB", json.dumps(["a=[1,2]", "+b='c'", "x=" + 100 * "y"]))
    assert sweep_tags()[:2] == ["a=1,2", "+b=c"] and len(sweep_tags()[2]) == 64
    monkeypatch.delenv("DDPM_LIGHTNING_JOB")
    assert sweep_tags() == []


def test_panels_share_the_window_of_the_target():
    target = np.linspace(-1, 1, 1001, dtype=np.float32).reshape(7, 143)
    image = {"low": target - 5, "single": target, "average": target, "target": target, "std": target + 1}
    panels = captioned(1, image, {"average": {"psnr": 24.116}})
    assert list(panels) == ["low", "single", "average", "std", "target"]
    pictures = {name: picture for name, (picture, _) in panels.items()}
    assert pictures["low"].max() == 0 and pictures["target"].min() == 0 and pictures["target"].max() == 255
    assert abs(int(pictures["target"][3, 71]) - 128) <= 1 and pictures["std"][-1, -1] == 255
    assert panels["average"][1] == "image 1: average, PSNR 24.12 dB"
    assert panels["std"][1].endswith("white is 2")
