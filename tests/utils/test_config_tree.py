"""The configuration tree read without Hydra: the same as Hydra composes."""

import pytest

from ddpm_lightning.cli import compose
from ddpm_lightning.utils.config_tree import choices, merged, read
from ddpm_lightning.utils.errors import UserError

REFERENCES = {"seed": 7, "run_folder": "runs/x", "data.batch_size": 8}
#: Settings without a default.
MISSING = {"folder": {"root": "x"}, "multinode": {"num_nodes": 2}}


def check(**names):
    given = {name: MISSING.get(name, {}) for name in names.values()}
    overrides = [
        f"{group}.{key}={value}" for group, name in names.items() for key, value in given[name].items()
    ]
    chosen = [f"{group}={name}" for group, name in names.items()]
    expected = compose.plain(compose.compose("train", [*chosen, "seed=7", "run_folder=runs/x", *overrides]))
    for group, name in names.items():
        assert merged(read(group, name, REFERENCES), given[name]) == expected[group], name


def test_files_are_read_as_hydra_composes_them():
    check(model="residual_flow_small", data="folder", trainer="multinode", logger="wandb_offline")


@pytest.mark.slow
@pytest.mark.parametrize("group", ["model", "data", "trainer", "logger"])
def test_all_files_are_read_as_hydra_composes_them(group):
    for name in choices(group):
        check(**{group: name})


def test_callbacks_and_normalisations_are_read_as_hydra_composes_them():
    config = compose.plain(compose.compose("train", ["run_folder=runs/x"]))
    assert read("callbacks", "default", REFERENCES) == config["callbacks"]
    for name in choices("data/normalisation"):
        config = compose.plain(compose.compose("train", [f"data/normalisation={name}", "run_folder=x"]))
        assert read("data/normalisation", name, {}) == config["data"]["normalisation"]


def test_a_name_without_a_file_is_refused():
    with pytest.raises(UserError) as caught:
        read("model", "ddpm_smal", {})
    assert "ddpm_smal" in str(caught.value.subject) and "ddpm_small" in caught.value.remedy


def test_a_nested_class_replaces_the_former_one_as_a_whole(tmp_path):
    settings = {"network": {"_target_": "a.A", "width": 1}, "optimizer": {"lr": 1.0, "fused": True}}
    changes = {"network": {"_target_": "b.B", "depth": 2}, "optimizer": {"lr": 2.0}, "root": tmp_path}
    assert merged(settings, changes) == {
        "network": {"_target_": "b.B", "depth": 2},
        "optimizer": {"lr": 2.0, "fused": True},
        "root": str(tmp_path),
    }
