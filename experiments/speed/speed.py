"""How fast the network and the presets are, against the plain path and two libraries, in one paired run.

    make speed                                          # or: python experiments/speed/speed.py
    python experiments/speed/speed.py --quick           # a smaller network, for a look at the script itself
    python experiments/speed/speed.py --device cuda --compile

    python experiments/speed/speed.py --tables          # only adds what `quality.py` has found since

Leaves `table.md` and `results.json`. What presets lose is measured by `quality.py`, which writes `presets/NAME.json`;
that of real pairs is called `real`.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from measure import Timing, flops_of, hot_spots, paired, ratio
from networks import Libraries, Ours, Plain, open_network
from table import GOALS, table

from ddpm_lightning.callbacks.ema import EMA
from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.diffusion.samplers import Ancestral
from ddpm_lightning.diffusion.schedule import CosineSchedule, log_snr

FOLDER = Path(__file__).parent
#: Network evaluations per patch of the paper and of the preset `mean`.
PAPER, STEPS, SAMPLES = 200 * 15, 5, 15


class Bench:
    """All measurements of a run.

    Args:
        arguments: Settings of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device = torch.device(arguments.device)
        self.repeats, self.base = arguments.repeats, 32 if arguments.quick else 64
        self.small, self.large = (32, 64) if arguments.quick else (64, 256)
        self.plain = Plain(open_network(self.base), self.device)
        self.ours = Ours(open_network(self.base), self.device, arguments.compile)
        self.libraries = Libraries(self.device, self.base)
        self.ratios: dict[str, dict[str, float]] = {}
        self.timings: dict[str, dict[str, Timing]] = {}
        self.facts: dict[str, Any] = {}
        self.profiles: dict[str, list[tuple[str, float]]] = {}

    def inputs(self, side: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns states beside low images, and labels."""
        return torch.randn(batch, 2, side, side, device=self.device), torch.zeros(batch, device=self.device)

    def compare(self, name: str, work: dict[str, Any], **ratios: tuple[str, str]) -> dict[str, Timing]:
        """Times pieces of work against each other, and keeps ratios of them by name."""
        print(name, flush=True)
        self.timings[name] = timings = paired(work, self.repeats, self.device)
        for key, (slow, fast) in ratios.items():
            self.ratios[key] = ratio(timings[slow], timings[fast])
            goal = GOALS.get(key)
            if goal and self.ratios[key]["ratio"] < goal and self.device.type == "cpu":
                self.profiles[key] = hot_spots(work[fast])
        return timings

    @torch.inference_mode()
    def forward(self) -> None:
        """The network in use, folded, against the plain path; outputs must agree."""
        self.plain.module.eval()
        for side, key in ((self.small, "forward_64_b1"), (self.large, "forward_256_b1")):
            x, label = self.inputs(side, 1)
            expected, found = self.plain(x, label), self.ours.folded(x, label)
            self.facts[f"relative_difference_{side}"] = (
                (found - expected).abs().max() / expected.abs().max()
            ).item()
            work = {
                "plain": lambda x=x, label=label: self.plain(x, label),
                "ours": lambda x=x, label=label: self.ours.folded(x, label),
                "ours, bf16": lambda x=x, label=label: self.ours.folded_bf16(x, label),
            }
            bf16 = {"forward_bf16": ("plain", "ours, bf16")} if side == self.large else {}
            timings = self.compare(f"forward, {side}², batch 1", work, **{key: ("plain", "ours")}, **bf16)
        flops = flops_of(lambda: self.ours.folded(x, label))
        self.facts["forward_gflop_256"] = flops / 1e9
        self.facts["forward_images_per_second_bf16"] = 1 / timings["ours, bf16"].median
        self._end_to_end(timings)

    @torch.inference_mode()
    def samples(self) -> None:
        """15 samples at once against one by one."""
        self.plain.module.eval()
        one, many = self.inputs(self.small, 1), self.inputs(self.small, SAMPLES)
        work = {
            "plain, one by one": lambda: [self.plain(*one) for _ in range(SAMPLES)],
            "ours, one by one": lambda: [self.ours.folded(*one) for _ in range(SAMPLES)],
            "ours, at once": lambda: self.ours.folded(*many),
        }
        name = f"15 network evaluations, {self.small}²"
        self.compare(name, work, samples_batched=("plain, one by one", "ours, at once"))

    def train(self) -> None:
        """Training steps, and achieved FLOP/s against the libraries'."""
        x, label = self.inputs(self.small, 8)
        steps = {
            "plain": self.plain.step(),
            "ours": self.ours.step(),
            "ours, bf16": self.ours.step(bfloat16=True),
            **{name: self.libraries.step(name) for name in self.libraries.modules},
        }
        work = {name: lambda step=step: step(x, label) for name, step in steps.items()}
        ratios = {"train_fp32": ("plain", "ours"), "train_bf16": ("plain", "ours, bf16")}
        timings = self.compare(f"training step, {self.small}², batch 8", work, **ratios)
        flops = {name: flops_of(do) for name, do in work.items()}
        self._against_libraries("train", timings, flops)
        self.facts["train_images_per_second_bf16"] = 8 / timings["ours, bf16"].median

    @torch.inference_mode()
    def against_libraries(self) -> None:
        """Achieved FLOP/s of a forward pass, and a step of the DDPM loop of diffusers."""
        x, label = self.inputs(self.small, 8)
        calls = {"ours": self.ours.folded, **self.libraries.calls}
        for module in self.libraries.modules.values():
            module.eval()
        work = {name: lambda call=call: call(x, label) for name, call in calls.items()}
        if "diffusers" in calls:
            work["diffusers, step of its DDPM loop"] = _ddpm_step(calls["diffusers"], x, label)
        timings = self.compare(f"forward, {self.small}², batch 8", work)
        flops = {name: flops_of(do) for name, do in work.items()}
        self._against_libraries("forward", timings, flops)

    def _against_libraries(self, kind: str, timings: dict[str, Timing], flops: dict[str, float]) -> None:
        achieved = {name: flops[name] / timing.median / 1e9 for name, timing in timings.items()}
        self.facts[f"{kind}_gflops"] = achieved
        for name in self.libraries.modules:
            found = ratio(timings[name], timings["ours"])
            scale = flops["ours"] / flops[name]
            self.ratios[f"gflops_vs_{name}_{kind}"] = {key: value * scale for key, value in found.items()}
        key = f"gflops_vs_diffusers_{kind}"
        if key in self.ratios and self.ratios[key]["ratio"] < GOALS[key] and self.device.type == "cpu":
            x, label = self.inputs(self.small, 8)
            work = self.ours.step() if kind == "train" else self.ours.folded
            self.profiles[key] = hot_spots(lambda: work(x, label))

    def ema(self) -> None:
        """The average of the weights, parameter by parameter against all in one."""
        currents = [p.detach() for p in self.ours.module.parameters()]
        averages, others = ([p.clone() for p in currents] for _ in range(2))
        callback = EMA(0.999)

        def one_by_one() -> None:  # as the paper's code does
            for average, current in zip(averages, currents, strict=True):
                average.copy_(average * 0.999 + (1 - 0.999) * current)

        with torch.no_grad():
            work = {"one by one": one_by_one, "ours": lambda: callback._average(others, currents, 1000)}
            self.compare("average of the weights", work, ema=("one by one", "ours"))

    def _end_to_end(self, forward: dict[str, Timing]) -> None:
        """A patch by the preset `mean` in full; by the paper's 200 x 15 on the plain path, from single evaluations."""
        schedule, bounds = CosineSchedule(200), (-1.0, 1.0)
        low = torch.randn(1, 1, self.large, self.large, device=self.device)

        def restore(network: Any, samples: int) -> float:
            def predict(y_t: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
                label = (log_snr(alpha_bar) / 4).to(y_t)
                return network(torch.cat([y_t, low.expand_as(y_t)], dim=1), label)

            began = time.process_time() if self.device.type == "cpu" else time.perf_counter()
            for sample in range(samples):
                noise = KeyedNoise(0, ["a"], [sample])
                Ancestral(STEPS)(predict, schedule, noise, low.shape[1:], self.device, bounds)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            now = time.process_time() if self.device.type == "cpu" else time.perf_counter()
            return now - began

        paper = forward["plain"].median * PAPER
        self.facts["paper_on_the_plain_path_seconds"] = paper
        for name, network in (("", self.ours.folded_bf16), ("_fp32", self.ours.folded)):
            seconds = restore(network, SAMPLES if not name else 3) * (1 if not name else SAMPLES / 3)
            self.facts[f"mean_preset_seconds{name}"] = seconds
            found = paper / seconds
            self.ratios[f"end_to_end{name}"] = {"ratio": found, "low": found, "high": found}
        self.facts["patches_per_second"] = {
            "mean": 1 / self.facts["mean_preset_seconds"],
            "one evaluation": 1 / forward["ours, bf16"].median,
        }

    def build(self) -> None:
        """Seconds and memory of building the network, in a process of its own."""
        code = (
            "import time, torch\n"
            "from ddpm_lightning.networks.mp_unet import MPUNet\n"
            # Not getrusage: its peak is that of the process that started this one.
            "status = lambda: open('/proc/self/status').read()\n"
            "peak = lambda: int(status().split('VmHWM:')[1].split()[0]) * 1024 / 1e9\n"
            "torch.set_num_threads(1); torch.randn(10); before, began = peak(), time.process_time()\n"
            f"MPUNet(base={self.base}, channels_per_head={self.base // 2})\n"
            "print(time.process_time() - began, peak() - before)\n"
        )
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, gigabytes = map(float, answer.stdout.split())
        self.facts |= {"build_seconds": seconds, "build_gb": gigabytes}


def _ddpm_step(call: Any, x: torch.Tensor, label: torch.Tensor) -> Any:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(200, beta_schedule="squaredcos_cap_v2")
    return lambda: scheduler.step(call(x, label), 100, x[:, :1]).prev_sample


def _machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    if device.type == "cpu" and Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    load = Path("/proc/loadavg").read_text().split()[:3] if Path("/proc/loadavg").exists() else []
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "load_at_the_end": load,
        "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    """Measures everything and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a small network and small images")
    parser.add_argument("--compile", action="store_true", help="compile the folded network (minutes)")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--tables", action="store_true", help="measure nothing, update the tables")
    arguments = parser.parse_args()
    if arguments.tables:
        write(json.loads((arguments.output / "results.json").read_text()), arguments.output)
        return
    torch.set_num_threads(arguments.threads)
    bench = Bench(arguments)
    for measurement in (
        bench.build,
        bench.forward,
        bench.samples,
        bench.against_libraries,
        bench.train,
        bench.ema,
    ):
        measurement()
    results = {
        "ratios": {name: round(found["ratio"], 3) for name, found in bench.ratios.items()},
        "quartiles": {name: [found["low"], found["high"]] for name, found in bench.ratios.items()},
        "facts": bench.facts,
        "timings": {
            name: {key: timing.to_dict() for key, timing in timings.items()}
            for name, timings in bench.timings.items()
        },
        "profiles": bench.profiles,
        "machine": _machine(bench.device),
        "network": {"base": bench.base, "sides": [bench.small, bench.large], "quick": arguments.quick},
        "absent": bench.libraries.absent,
    }
    write(results, arguments.output)


def write(results: dict[str, Any], folder: Path) -> None:
    """Writes ``results.json`` and ``table.md``, with what is known of the presets."""
    stored = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "presets").glob("*.json"))}
    found = {name: quality["presets"] for name, quality in stored.items()}
    results = results | {"presets": found.pop("real", {}), "presets_elsewhere": found}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "table.md").write_text(table(results, stored))
    print((folder / "table.md").read_text())


if __name__ == "__main__":
    main()
