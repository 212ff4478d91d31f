"""N steps, a resume, and N more steps leave the very weights of 2N steps."""

import pytest
import torch

from tests.cli.test_verbs import TINY


@pytest.mark.parametrize("first", [8, 5], ids=["at the end of an epoch", "inside of an epoch"])
def test_resumed_weights_are_equal_to_the_last_bit(command, pair_folder, tmp_path, first):
    # An epoch is 4 images x 4 crops / 4 = 4 batches; dropout draws from the global generator.
    common = [*TINY, f"data.root={pair_folder}", "model.network.dropout=0.2", "model/lr_schedule=saw_tooth"]
    for name, steps in (("whole", 12), ("part", first)):
        answer = command("train", *common, f"trainer.max_steps={steps}", f"run_folder={tmp_path}/{name}")
        assert answer.code == 0, answer.err
    torch.manual_seed(99)
    answer = command("train", f"resume={tmp_path}/part", "trainer.max_steps=12")
    assert answer.code == 0, answer.err
    whole, part = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "part")
    )
    assert whole["global_step"] == part["global_step"] == 12
    for kind in ("state_dict", "current_model_state"):
        for name, weight in whole[kind].items():
            assert torch.equal(weight, part[kind][name]), (kind, name)


def test_there_must_be_something_to_resume(command, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = command("train", f"resume={tmp_path}/empty")
    assert answer.code == 2 and "nothing to resume" in answer.err
