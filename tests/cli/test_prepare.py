"""``prepare``: archive to trainable set, audit of own data, the backbone of LPIPS, and answers to bad requests."""

import json

import numpy as np
import pytest
import requests
import tifffile

from ddpm_lightning.cli import compose, prepare
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build
from tests.cli.test_verbs import TINY
from tests.datasets.miniatures import Server, png, tree, write_zebrafish, zipped

SMALL = ["data.preparation.size=64", "data.preparation.split={val:[3],test:[4]}"]


@pytest.fixture
def archive(tmp_path):
    return write_zebrafish(tmp_path / "fmd", fields=4)


def test_an_archive_becomes_a_set_that_trains(command, archive, tmp_path):
    answer = command("prepare", "data=zebrafish", f"data.archive={archive}", *SMALL)
    assert answer.code == 0, answer.err
    assert "16 train, 8 val, 8 test pairs; audit in data/zebrafish/audit.md" in answer.out
    assert "not as published: train: 16 pairs, published are 3600 (-3584)" in answer.out
    root = tmp_path / "data" / "zebrafish"
    assert sorted(path.name for path in root.iterdir()) == [
        "audit.md",
        "audit.png",
        "manifest.json",
        "test",
        "train",
        "val",
    ]
    audit = (root / "audit.md").read_text()
    assert (
        "FMD" in audit
        and "- licence: that of the data is not known" in audit
        and "not known: the size" in audit
    )
    manifest = json.loads((root / "manifest.json").read_text())
    assert manifest["pairs"][0]["field"] == "1" and manifest["pairs"][0]["crop"] == [0, 0, 64, 64]
    small = [argument for argument in TINY if argument != "data=folder"]
    answer = command("train", *small, "data=zebrafish", "trainer.max_steps=2", "run_folder=run")
    assert answer.code == 0, answer.err
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_checking_a_prepared_set_finds_what_changed(command, archive, tmp_path):
    command("prepare", "data=zebrafish", f"data.archive={archive}", *SMALL)
    assert command("prepare", "data=zebrafish", "check=true").code == 0
    root = tmp_path / "data" / "zebrafish"
    image = tifffile.imread(root / "val" / "low" / "00001.tif")
    tifffile.imwrite(root / "val" / "low" / "00001.tif", np.maximum(image, 1))
    (root / "test" / "high" / "00007.tif").unlink()
    answer = command("prepare", "data=zebrafish", "check=true")
    assert answer.code == 3 and "val/low/00001.tif: has changed since it was prepared" in answer.out
    assert "test/high/00007.tif: is missing" in answer.out


def test_a_server_gives_the_same_set_as_the_folder(command, archive, tmp_path):
    server = Server(tmp_path / "published")
    zipped(archive, server.folder / "Confocal_FISH.tar")
    answer = command(
        "prepare", "data=zebrafish", f"data.mirrors=[{server.url}]", "data.root=downloaded", *SMALL
    )
    server.shutdown()
    server.server_close()
    assert answer.code == 0, answer.err
    command("prepare", "data=zebrafish", f"data.archive={archive}", "data.root=by_hand", *SMALL)
    by_hand = {name: digest for name, digest in tree(tmp_path / "by_hand").items() if name.endswith(".tif")}
    assert by_hand and by_hand.items() <= tree(tmp_path / "downloaded").items()


def test_pairs_left_out_change_the_exit_code(command, archive):
    png(archive / "raw/1/HV110_P0500510001.png", np.full((128, 128), 4, np.uint8))
    answer = command("prepare", "data=zebrafish", f"data.archive={archive}", *SMALL)
    assert answer.code == 3 and "left out: raw/1/HV110_P0500510001.png: is constant" in answer.out
    answer = command(
        "prepare", "data=zebrafish", f"data.archive={archive}", *SMALL, "on_error=stop", "data.root=other"
    )
    assert answer.code == 2 and "is constant" in answer.err


def test_own_data_are_audited_and_not_touched(command, pair_folder, tmp_path):
    (tmp_path / "data").mkdir()
    own = pair_folder.rename(tmp_path / "data" / "pairs")  # where prepared sets lie as well
    before = tree(tmp_path / "data")
    answer = command("prepare", "data=folder", f"data.root={own}", "check=true")
    assert answer.code == 0 and "4 train, 2 val, 3 test pairs; audit in audits/pairs/audit.md" in answer.out
    assert tree(tmp_path / "data") == before and (tmp_path / "audits" / "pairs" / "audit.png").is_file()


def test_own_data_with_a_leak_and_a_lost_partner(command, pair_folder):
    for role in ("low", "high"):
        image = tifffile.imread(pair_folder / "train" / role / "00002.tif")
        tifffile.imwrite(pair_folder / "test" / role / "00001.tif", image)
    (pair_folder / "val" / "low" / "00001.tif").unlink()
    answer = command("prepare", "data=folder", f"data.root={pair_folder}", "check=true", "output=here")
    assert answer.code == 3
    assert "error: the same image is in two splits: train/high/00002, test/high/00001" in answer.out
    assert "val/high/00001.tif: has no partner" in answer.out


def test_simulated_sets_are_audited_too(command):
    answer = command(
        "prepare", "data=simulated_synapses", "data.counts={train:3,val:3,test:3}", "data.size=48",
        "data/degradations=[line_noise]", "check=true", "output=here",
    )  # fmt: skip
    assert answer.code == 0 and "simulated_synapses: 3 train" in answer.out


def test_the_backbone_of_lpips(command, monkeypatch, tmp_path):
    monkeypatch.setattr(prepare, "fetch_backbone", lambda: tmp_path / "alexnet.safetensors")
    answer = command("prepare", "lpips")
    assert answer.code == 0 and answer.out.strip() == f"backbone of LPIPS: {tmp_path / 'alexnet.safetensors'}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["data: is not given", "zebrafish", "prepare lpips"]),
        (["data=zebrafih"], ["zebrafih", "did you mean zebrafish"]),
        (["data=zebrafish", "data.archive=nowhere.tar"], ["data.archive=nowhere.tar", "does not exist"]),
        (["data=zebrafish", "check=true"], ["is not prepared", "ddpm-lightning prepare data=zebrafish"]),
        (["data=synapses"], ["cannot be downloaded automatically", "data.archive=FILE_OR_FOLDER"]),
        (["data=folder", "data.root=nowhere"], ["data.root=nowhere", "is not a folder"]),
        (["data=zebrafish", "on_error=ignore"], ["on_error", "skip, stop"]),
    ],
)
def test_bad_requests_are_refused(command, arguments, words, tmp_path):
    answer = command("prepare", *arguments)
    assert answer.code == 2 and "Traceback" not in answer.err
    for word in words:
        assert word in answer.err
    assert not list(tmp_path.rglob("*.tif"))


def test_a_refused_archive_leaves_no_folder(command, tmp_path):
    (tmp_path / "text.zip").write_text("not an archive")
    (tmp_path / "mine").mkdir()
    for place in ("made", "mine"):
        answer = command("prepare", "data=zebrafish", "data.archive=text.zip", f"data.root={place}/set")
        assert answer.code == 2 and "text.zip" in answer.err
    answer = command("prepare", "data=zebrafish", "data.archive=text.zip", "data.root=mine")
    assert answer.code == 2
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "mine",
        "text.zip",
    ]


def test_unreachable_servers_are_reported_with_the_page_to_visit(command, monkeypatch):
    def offline(*_, **__):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests.Session, "send", offline)
    answer = command("prepare", "data=mitochondria")
    assert answer.code == 2
    for word in (
        "zenodo.org/records/14215838",
        "live_cell_mitochondria_u2os_tom20_halotag7_dm_sir.rar",
        "manually",
    ):
        assert word in answer.err


def test_training_before_preparing_says_what_to_run(command):
    answer = command("train", "data=mitochondria", "run_folder=run")
    assert answer.code == 2 and "ddpm-lightning prepare data=mitochondria" in answer.err


def test_help_shows_examples(command):
    answer = command("prepare", "--help")
    assert answer.code == 0 and "prepare data=folder data.root=DIR check=true" in answer.out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.preparation.registr=true"], r"did you mean data\.preparation\.register\?"),
        (["data.archiv=/x"], r"did you mean data\.archive\?"),
        (["data.preparation.size=0"], r"data\.preparation\.size: is 0[\s\S]*at least 16"),
        (["data.preparation.most_saturation=7"], r"at least 0 and at most 1"),
        (["data.preparation.split={vall:0.1}"], r"data\.preparation\.split: cannot be set in this way"),
        (["+data.preparation.split.tset=0.1"], r"data\.preparation\.split: is [\s\S]*train, val, test"),
        (
            ["data.preparation.field_pattern='(abc'"],
            r"data\.preparation\.field_pattern=\(abc: cannot be used",
        ),
        (["data.preparation.field_pattern=abc"], "it has no group"),
        (["data.mirrors=5"], r"mirrors: [\s\S]*is 5[\s\S]*a list"),
        (["+data.preparation.foo=1"], r"preparation\.foo: is not a setting of Preparation"),
        (["data/degradations=[line_nois]"], "did you mean line_noise"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_downloaded(overrides, words):
    with pytest.raises(UserError, match=words):
        settings = compose.plain(compose.compose("prepare", ["data=zebrafish", *overrides]))
        build(settings["data"], at="data")
