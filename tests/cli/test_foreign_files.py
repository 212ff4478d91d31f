"""Files of strangers: whatever a checkpoint, an exported model or a run folder names, no verb runs or writes it."""

import json
import os
import sys

import pytest
import torch
import yaml

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.checkpoints.safetensors_file import write_safetensors
from ddpm_lightning.cli import compose
from ddpm_lightning.cli.train import new_settings
from ddpm_lightning.training.resume import resumed_settings
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.instantiate import build
from tests.trained import TINY, write_checkpoint

#: What no file may cause: events of :mod:`sys.audit` that start processes, reach the network or change the disk.
DEEDS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
)
CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "shutil.rmtree",
)
watched: list[tuple] = []
watching = False


def _note(event, arguments):
    if not watching:
        return
    if event == "open":
        path, mode, flags = arguments
        written = (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (
            os.O_WRONLY | os.O_RDWR
        )
        if written and "__pycache__" not in str(path) and str(path) != os.devnull:
            watched.append((event, str(path)))
    elif event in DEEDS or (event in CHANGES and "__pycache__" not in str(arguments)):
        watched.append((event, str(arguments)))


sys.addaudithook(_note)  # it cannot be taken away again, and costs nothing while nobody watches


@pytest.fixture
def deeds():
    global watching
    watched.clear()
    watching = True
    yield watched
    watching = False


def crafted(mark) -> dict[str, dict]:
    """Returns descriptions that would leave a mark, if anything of them were called."""
    touch, mark = f"touch '{mark}'", str(mark)
    return {
        "a function of this package": {
            "_target_": "ddpm_lightning.utils.atomic.write_text",
            "path": mark,
            "text": "x",
        },
        "a factory of one": {
            **{"_target_": "ddpm_lightning.utils.atomic.write_text", "_partial_": True},
            "text": "x",
        },
        "a process of this package": {
            **{
                "_target_": "ddpm_lightning.utils.distributed.run_in_processes",
                "arguments": [],
                "processes": 2,
            },
            "function": {"_target_": "os.system", "_partial_": True},
        },
        "a module's module": {
            "_target_": "ddpm_lightning.training.provenance.subprocess.Popen",
            "args": ["touch", mark],
        },
        "a module's class": {"_target_": "ddpm_lightning.utils.atomic.Path", "path": mark},
        "the builder's own": {
            "_target_": "ddpm_lightning.utils.instantiate.importlib.import_module",
            "name": "antigravity",
        },
        "the command line": {"_target_": "ddpm_lightning.cli.main.main"},
        "a verb": {"_target_": "ddpm_lightning.cli.demo.run", "config": {}},
        "torch.save": {"_target_": "torch.save", "obj": 1, "f": mark},
        "torch.load": {"_target_": "torch.load", "f": mark, "weights_only": False},
        "torch.hub": {"_target_": "torch.hub.load", "repo_or_dir": mark, "model": "x", "source": "local"},
        "torch through this package": {
            "_target_": "ddpm_lightning.checkpoints.load.torch.save",
            **{"obj": 1, "f": mark},
        },
        "a package that torch imports": {"_target_": "torch.optim.adamw.os.system", "command": touch},
        "a callback that takes functions": {
            "_target_": "lightning.pytorch.callbacks.LambdaCallback",
            "setup": {"_target_": "os.system", "command": touch},
        },
        "Lightning's command line": {"_target_": "lightning.pytorch.cli.LightningCLI", "args": ["fit"]},
        "os.system": {"_target_": "os.system", "command": touch},
        "subprocess": {"_target_": "subprocess.Popen", "args": ["touch", mark]},
        "eval": {"_target_": "builtins.eval", "source": f"open({mark!r}, 'w')"},
        "exec": {"_target_": "builtins.exec", "_args_": [f"open({mark!r}, 'w')"]},
        "open": {"_target_": "io.open", "file": mark, "mode": "w"},
        "rmtree": {"_target_": "shutil.rmtree", "path": os.path.dirname(mark)},
        "pickle": {"_target_": "pickle.loads", "data": "cos\nsystem\n"},
        "import": {"_target_": "importlib.import_module", "name": "antigravity"},
        "Hydra": {"_target_": "hydra.utils.call", "config": {"_target_": "os.system", "command": touch}},
        "Hydra's resolvers": {"_target_": "omegaconf.OmegaConf.register_new_resolver", "name": "x"},
        "a name in pieces": {"_target_": ["os", "system"], "command": touch},
        "a data set": {
            "_target_": "ddpm_lightning.datasets.simulated_set.SimulatedData",
            **{"specimen": "microtubules", "counts": {"test": 1}, "cache": mark},
        },
    }


def places(card: dict) -> dict:
    """Returns how a description gets into a card, by place."""
    model, scaling = card["model"], card["normalisation"]["config"]
    return {
        "model": lambda node: card.update(model=node),
        "optimizer": lambda node: model.update(optimizer={**node, "_partial_": True}),
        "sampler": lambda node: model.update(sampler=node),
        "network": lambda node: model.update(network=node),
        "inside of the network": lambda node: model["network"].update(base=node),
        "a list of the network": lambda node: model["network"].update(multipliers=[1, [node]]),
        "inside of the optimiser": lambda node: model["optimizer"].update(lr=[{"deep": node}]),
        "schedule": lambda node: model.update(schedule=node),
        "lr_schedule": lambda node: model.update(lr_schedule=node),
        "a setting that is none": lambda node: model.update(extra={"of": [node]}),
        "normalisation": lambda node: card["normalisation"].update(config=node),
        "normaliser": lambda node: scaling.update(input=node),
        "target": lambda node: scaling.update(
            target={"_target_": scaling["target"]["_target_"], "blur": node}
        ),
        "mean model": lambda node: card.update(
            model={
                "_target_": "ddpm_lightning.models.pmrf.PMRF",
                **{
                    "regression": {"_target_": "ddpm_lightning.models.regression.Regression", "network": node}
                },
                **{"network": model["network"], "sampler": model["sampler"]},
            }
        ),
    }


NAMES = list(crafted("x"))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return torch.load(write_checkpoint(tmp_path_factory.mktemp("model") / "a.ckpt"), weights_only=True)


def spoiled(original, place, node, path):
    """Writes a checkpoint, or an exported model, with a description in some place of its card."""
    content = {**original, "card": json.loads(json.dumps(original["card"]))}
    places(content["card"])[place](node)
    if path.suffix == ".safetensors":
        write_safetensors(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_crafted_model_is_built(original, tmp_path, name, deeds):
    mark = tmp_path / "mark"
    node = crafted(mark)[name]
    for number, place in enumerate(places(json.loads(json.dumps(original["card"])))):
        path = spoiled(original, place, node, tmp_path / f"{number}.ckpt")
        watched.clear()
        with pytest.raises(UserError) as refusal:
            load(path)
        assert not watched and not mark.exists(), (place, watched)
        assert str(path) in str(refusal.value)
        if name not in ("a name in pieces", "a data set"):
            assert "_target_" in str(refusal.value) and "not allowed" in str(refusal.value), place


def listing(folder):
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()
    }


#: One of each kind for the verbs, which all load by the function that the test above tries with every one.
SOME = (
    ("a function of this package", "optimizer", ".ckpt"),
    ("os.system", "normaliser", ".safetensors"),
    ("torch.save", "inside of the network", ".ckpt"),
)


@pytest.mark.parametrize(("name", "place", "suffix"), SOME)
def test_no_verb_runs_what_a_model_names(
    command, original, pair_folder, tmp_path, name, place, suffix, deeds
):
    mark, data = tmp_path / "mark", ["data=folder", f"data.root={pair_folder}"]
    path = spoiled(original, place, crafted(mark)[name], tmp_path / f"model{suffix}")
    low, out = pair_folder / "test/low/00000.tif", tmp_path / "out"
    before = listing(tmp_path)
    for arguments in (
        ["show", path],
        ["restore", f"checkpoint={path}", f"input={low}", f"output={out}"],
        ["evaluate", f"checkpoint={path}", *data, f"output={out}"],
        ["export", f"checkpoint={path}", f"output={tmp_path}/a.safetensors", "authors=[A]"],
        ["train", f"finetune={path}", *data, f"run_folder={tmp_path}/run", "trainer=cpu"],
    ):
        watched.clear()
        answer = command(*arguments)
        assert answer.code == 2 and "not allowed" in answer.err and "Traceback" not in answer.err, answer
        assert not [deed for deed in watched if deed[0] in DEEDS], watched
        assert listing(tmp_path) == before, arguments


def run_folder(original, folder, change):
    """Writes the folder of a run as if it had been begun, with something changed in its configuration."""
    config = compose.compose(
        "train", [*TINY, "data.counts={train:4,val:2,test:2}", "data.size=32", "trainer=cpu"]
    )
    config.run_folder = str(folder)
    names = {"model": "ddpm_small", "data": "simulated_microtubules"}
    settings = new_settings(config, names).model_dump()
    change(settings)
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(original, folder / "checkpoints/last.ckpt")
    (folder / "config.yaml").write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    return folder


def changes(mark) -> dict:
    """Returns what a stranger might write into a configuration, by place."""
    node, away = crafted(mark)["os.system"], str(mark.parent / "elsewhere")
    written = crafted(mark)["a factory of one"]
    return {
        "callback": lambda c: c["callbacks"].update(own=node),
        "inside of a callback": lambda c: c["callbacks"]["checkpoint"].update(monitor=node),
        "logger": lambda c: c["logger"].update(own=crafted(mark)["subprocess"]),
        "strategy": lambda c: c["trainer"].update(strategy=node),
        "profiler": lambda c: c["trainer"].update(profiler=crafted(mark)["eval"]),
        "plugins of the trainer": lambda c: c["trainer"].update(own=[{"deep": node}]),
        "optimiser": lambda c: c["model"].update(optimizer=written),
        "normalisation": lambda c: c["data"]["normalisation"].update(input=node),
        "data": lambda c: c.update(data={**c["data"], "_target_": "os.system"}),
        "degradations": lambda c: c["data"].update(degradations={"own": node}),
        "a model among the callbacks": lambda c: c["callbacks"].update(own=c["model"]),
        "trust of its own": lambda c: c.update(trust=["os"], model={**c["model"], "optimizer": node}),
        "where checkpoints go": lambda c: c["callbacks"]["checkpoint"].update(dirpath=away),
        "what they are called": lambda c: c["callbacks"]["checkpoint"].update(filename="../../elsewhere"),
        "where the log goes": lambda c: c["logger"]["csv"].update(folder=away),
        "an address": lambda c: c["callbacks"]["checkpoint"].update(filename="local:///elsewhere"),
    }


@pytest.mark.parametrize("place", list(changes(__import__("pathlib").Path("x/y"))))
def test_no_run_folder_makes_a_resumed_run_do_anything(command, original, tmp_path, place, deeds):
    mark = tmp_path / "mark"
    folder = run_folder(original, tmp_path / "run", changes(mark)[place])
    before = listing(tmp_path)
    watched.clear()
    answer = command("train", f"resume={folder}")
    assert answer.code == 2 and "Traceback" not in answer.err, answer
    assert any(word in answer.err for word in ("not allowed", "of the kind", "outside of the run folder")), (
        answer
    )
    assert not [deed for deed in watched if deed[0] in DEEDS], watched
    assert listing(tmp_path) == before


def test_no_run_folder_starts_a_cache_elsewhere(original, tmp_path):
    away = tmp_path / "elsewhere"
    (away / "own").mkdir(parents=True)

    def cache_of(name, cache):
        change = lambda c: c["data"].update(cache=str(cache))  # noqa: E731
        return resumed_settings(run_folder(original, tmp_path / name, change), {}).data["cache"]

    assert cache_of("a", away) is None and cache_of("b", away / "new") is None
    assert cache_of("c", tmp_path / "a/config.yaml") is None
    (away / "0123456789abcdef0123").mkdir()  # a cache that is there is used
    assert cache_of("d", away) == str(away)


def test_references_in_a_stored_configuration_are_text(command, original, tmp_path, monkeypatch):
    """Variables of the environment hold secrets; functions of Hydra could be anybody's."""
    monkeypatch.setenv("SECRET", "42")
    change = lambda c: c["model"]["sampler"].update(steps="${oc.env:SECRET}")  # noqa: E731
    answer = command("train", f"resume={run_folder(original, tmp_path / 'run', change)}")
    assert answer.code == 2 and "42" not in answer.err and "${oc.env:SECRET}" in answer.err


def test_a_checkpoint_without_the_state_of_a_run_is_not_resumed(command, original, tmp_path):
    folder = run_folder(original, tmp_path / "run", lambda c: None)
    data = build(yaml.safe_load((folder / "config.yaml").read_text())["data"])
    data.setup("fit")
    card = json.loads(json.dumps(original["card"]))
    card["normalisation"]["state"] = data.normalisation.state()
    torch.save({**original, "card": card}, folder / "checkpoints/last.ckpt")
    answer = command("train", f"resume={folder}")
    assert answer.code == 2 and "Traceback" not in answer.err and "last.ckpt" in answer.err, answer.err


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch mark']",
        "a: &a [x]\nb: &b [*a, *a]\n"
        + "".join(
            f"c{n}: &c{n} [*{p}, *{p}]\n"
            for n, p in zip(range(60), ["b", *(f"c{k}" for k in range(59))], strict=True)
        ),
        "[" * 5000,
        "model: 3",
        "- a",
        "",
        "\0",
    ],
    ids=["tag", "aliases", "deep", "number", "list", "empty", "binary"],
)
def test_configurations_that_are_none(command, original, tmp_path, text, deeds):
    folder = run_folder(original, tmp_path / "run", lambda c: None)
    (folder / "config.yaml").write_text(text)
    answer = command("train", f"resume={folder}")
    assert answer.code == 2 and "config.yaml" in answer.err and "is damaged" in answer.err
    assert not [deed for deed in watched if deed[0] in DEEDS]


def test_the_own_configuration_lends_a_file_no_trust(command, original, pair_folder, tmp_path, monkeypatch):
    """A class of the user's own on the command line does not make the same class of a file allowed."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    mark = tmp_path / "imported"
    (tmp_path / "stranger.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Net: pass\n"
    )
    (tmp_path / "own.py").write_text("import lightning\nclass Watch(lightning.Callback): pass\n")
    path = spoiled(original, "network", {"_target_": "stranger.Net"}, tmp_path / "model.ckpt")
    folder = run_folder(
        original, tmp_path / "run", lambda c: c["callbacks"].update(own={"_target_": "stranger.Net"})
    )
    data, own = ["data=folder", f"data.root={pair_folder}"], "+callbacks.own._target_=own.Watch"
    for arguments in (
        ["train", f"finetune={path}", *data, own, f"run_folder={tmp_path}/new"],
        ["train", f"finetune={path}", *data, own, "trust=own", f"run_folder={tmp_path}/new"],
        ["train", "model=pmrf_small", f"model.mean={path}", *data, own, f"run_folder={tmp_path}/new"],
        ["evaluate", f"checkpoint={path}", *data, f"output={tmp_path}/scores"],
        ["train", f"resume={folder}"],
        ["train", f"resume={folder}", "trust=own"],
    ):
        answer = command(*arguments)
        assert answer.code == 2 and "stranger.Net" in answer.err and "trust=stranger" in answer.err, answer
        assert not mark.exists(), arguments
