"""Trains other networks on the same pairs, for the same time as the model of this folder and for three times as long.

python -m experiments.w2s_widefield.networks --pairs W2S --lpips FILE
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ddpm_lightning.utils.errors import UserError
from experiments import common
from experiments.w2s_widefield.run import SET, report


def plugged_in(network: str, rate: float) -> list[str]:
    """Returns overrides of `train` for a network that is not part of the package, on images in [0, 1]."""
    return [
        "model=care",
        "model.error=mse",
        "model/lr_schedule=cosine",
        f"model.optimizer.lr={rate}",
        "~model.network",
        f"+model.network={{_target_:experiments.w2s_widefield.{network}}}",
    ]


#: Overrides of `train` by name of the network. All minimise the squared error, and none has seen other images.
TRAININGS = {
    "regression_small": ["model=regression_small"],
    "NAFNet-32": plugged_in("nafnet.NAFNet", 1e-3),
    "SwinIR light": plugged_in("swinir.SwinIR", 5e-4),
}
#: Multiples of the time.
TIMES = (1, 3)
SIZES = {
    # The time in which the model of this folder was trained. On a CPU, the tokens of SwinIR are blocks of 2 x 2 pixels.
    "small": {"seconds": 1440, "SwinIR light": ["+model.network.patch=2"]},
    "full": {"seconds": 3600},
}
#: For networks that are not part of the package.
TRUST = "trust=experiments"


def title(network: str, times: int) -> str:
    """Returns the name of a row: network and training time."""
    return f"{network}, trained {times} x"


def measure(options: common.Options) -> None:
    """Trains what is missing, evaluates it on all test pairs, and adds a row for each image."""
    if SET not in options.pairs:
        raise UserError("--pairs", f"names no folder {SET}", remedy=f"pass the folder of pairs, …/{SET}")
    data = ["data=folder", f"data.root='{options.pairs[SET]}'"]
    names = {_key(network, times): (network, times) for network in TRAININGS for times in TIMES}
    methods = [_method(key, *names[key], options.size) for key in names]
    budget = f"budget.seconds={options.size['seconds']}"
    settings = {**options.size, "benchmark": methods}
    chosen = replace(options, size=settings, training=[budget, *options.training])
    found = common.checkpoints(chosen, {SET.replace("-", "_"): data}, list(names))
    rows = common.Rows(
        options.work / "networks.csv", {"methods": methods, "training": chosen.training}, ("network",)
    )
    for (_, key), checkpoint in found.items():
        network = title(*names[key])
        if not rows.has(network=network):
            rows.add([{"network": network, **row} for row in _evaluated(options, key, checkpoint, data)])


def _key(network: str, times: int) -> str:
    return f"{network.lower().replace('-', '_').replace(' ', '_')}_{times}x"


def _method(key: str, network: str, times: int, size: Mapping) -> str:
    train = ",".join(f'"{text}"' for text in [*TRAININGS[network], *size.get(network, ())])
    return f'+methods.{key}={{train:[{train}],evaluate:["{TRUST}"],budget:{times}}}'


def _evaluated(
    options: common.Options, key: str, checkpoint: object, data: Sequence[str]
) -> list[dict[str, str]]:
    """Returns the rows of `evaluate` on all test images."""
    output = options.work / key
    if not (output / "metrics.csv").is_file():
        shutil.rmtree(output, ignore_errors=True)
        settings = [
            f"checkpoint='{checkpoint}'",
            *data,
            "protocol=affine",
            "bfloat16=auto",
            "figures=0",
            TRUST,
        ]
        common.command("evaluate", *settings, f"output='{output}'")
    kept = ("image", "field", *common.METRICS)
    rows = common.read(output / "metrics.csv")
    return [{column: row[column] for column in kept} for row in rows if row["estimator"] == "average"]


if __name__ == "__main__":
    common.run("w2s_widefield", SIZES, measure, report)
