"""The results as a page: ratios compared with their goals, presets with the paper, and why a goal was missed."""

from typing import Any

__all__ = ["GOALS", "table"]

#: Least ratios that are aimed at.
GOALS = {
    "forward_256_b1": 1.08,
    "forward_64_b1": 1.2,
    "forward_bf16": 1.9,
    "train_fp32": 1.1,
    "train_bf16": 1.9,
    "samples_batched": 1.5,
    "ema": 2.0,
    "end_to_end": 40.0,
    "gflops_vs_diffusers_forward": 1.0,
    "gflops_vs_diffusers_train": 1.1,
}
MEANINGS = {
    "forward_256_b1": "one network evaluation, large image, float32: plain / ours",
    "forward_64_b1": "one network evaluation, small image, float32: plain / ours",
    "forward_bf16": "one network evaluation, large image: plain float32 / ours bfloat16",
    "train_fp32": "training step, float32: plain / ours",
    "train_bf16": "training step: plain float32 / ours bfloat16",
    "samples_batched": "15 samples: plain one by one / ours at once",
    "ema": "average of the weights: one by one / all in one",
    "end_to_end": "one patch: paper's 200 x 15 on the plain path / preset `mean`, bfloat16",
    "end_to_end_fp32": "one patch: paper's 200 x 15 on the plain path / preset `mean`, float32",
    "gflops_vs_diffusers_forward": "achieved FLOP/s, forward: ours / diffusers",
    "gflops_vs_diffusers_train": "achieved FLOP/s, training: ours / diffusers",
    "gflops_vs_denoising_diffusion_pytorch_forward": "achieved FLOP/s, forward: ours / denoising-diffusion-pytorch",
    "gflops_vs_denoising_diffusion_pytorch_train": "achieved FLOP/s, training: ours / denoising-diffusion-pytorch",
}
#: Dense bfloat16 peak of GPUs in TFLOP/s, for the model FLOP utilisation.
PEAKS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}


def table(results: dict[str, Any], qualities: dict[str, dict[str, Any]]) -> str:
    """Returns the page.

    Args:
        results: Content of ``results.json``.
        qualities: What ``quality.py`` found, by the name of its data.
    """
    machine, network = results["machine"], results["network"]
    lines = [
        "# Speed",
        "",
        f"{machine['device']}, {machine['threads']} thread(s), torch {machine['torch']}; load "
        f"{' '.join(machine['load_at_the_end'])}. Network of {network['base']} channels; images of "
        f"{network['sides'][0]}² and {network['sides'][1]}² pixels. Paired, interleaved repeats; CPU seconds of the "
        "process (seconds, on a GPU); medians of the ratios, quartiles in brackets.",
        *(["", "**A quick run with a small network, not evidence.**"] if network["quick"] else []),
        "",
        "| ratio | found | goal | what |",
        "| --- | --- | --- | --- |",
        *(_ratio_row(name, results) for name in MEANINGS if name in results["ratios"]),
        "",
        *_facts(results),
        *_timings(results["timings"]),
        *_profiles(results),
        *[line for name, quality in qualities.items() for line in _presets(name, quality)],
        *([] if qualities else ["What presets lose was not measured: see `quality.py`."]),
    ]
    return "\n".join(lines) + "\n"


def _ratio_row(name: str, results: dict[str, Any]) -> str:
    low, high = results["quartiles"][name]
    found, goal = results["ratios"][name], GOALS.get(name)
    verdict = "" if goal is None else f"{goal:g} {'✓' if found >= goal else '✗'}"
    return f"| {name} | {found:.2f} [{low:.2f}, {high:.2f}] | {verdict} | {MEANINGS[name]} |"


def _facts(results: dict[str, Any]) -> list[str]:
    facts = results["facts"]
    lines = [
        f"Building the network: {facts['build_seconds']:.2f} s, {facts['build_gb']:.2f} GB (goals: 2 s, 0.6 GB).",
        "Largest relative difference of the folded network, float32: "
        + ", ".join(f"{v:.1e}" for k, v in facts.items() if k.startswith("relative_difference")),
        f"One patch: {facts['paper_on_the_plain_path_seconds']:.0f} s by 3000 network evaluations of the plain path "
        f"(extrapolated from single ones), {facts['mean_preset_seconds']:.1f} s by preset `mean` (in full, bfloat16).",
        f"Training {facts['train_images_per_second_bf16']:.2f} images/s, forward "
        f"{facts['forward_images_per_second_bf16']:.2f} images/s, in bfloat16. Peak memory "
        f"{results['machine']['peak_memory_gb']:.1f} GB.",
    ]
    for kind in ("forward", "train"):
        achieved = ", ".join(f"{name} {value:.0f}" for name, value in facts[f"{kind}_gflops"].items())
        lines.append(f"Achieved GFLOP/s, {kind}: {achieved}.")
    peak = next((value for name, value in PEAKS.items() if name in results["machine"]["device"]), None)
    if peak:
        used = facts["forward_gflop_256"] * facts["forward_images_per_second_bf16"] / peak / 1e3
        lines.append(
            f"Model FLOP utilisation, forward, bfloat16, batch 1: {100 * used:.1f} % of {peak:g} TFLOP/s."
        )
    lines += [f"Left out: {name}, {reason}." for name, reason in results["absent"].items()]
    return [line for text in lines for line in (f"- {text}",)] + [""]


def _timings(timings: dict[str, Any]) -> list[str]:
    lines = ["| work | path | median s | least to most |", "| --- | --- | --- | --- |"]
    for work, paths in timings.items():
        for path, t in paths.items():
            lines.append(f"| {work} | {path} | {t['median']:.4g} | {t['least']:.4g} to {t['most']:.4g} |")
    return [*lines, ""]


def _profiles(results: dict[str, Any]) -> list[str]:
    lines = []
    for name, spots in results["profiles"].items():
        where = ", ".join(f"{key} {100 * fraction:.0f} %" for key, fraction in spots)
        lines += [f"`{name}` misses its goal. Where the time goes: {where}.", ""]
    return lines


def _presets(name: str, quality: dict[str, Any]) -> list[str]:
    lines = [
        f"## Presets, {name}",
        "",
        quality["about"],
        "",
        "| preset | scheme | network evaluations | images | PSNR − paper, dB | MS-SSIM − paper "
        "| LPIPS of a sample | std ratio (paper) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for preset, found in quality["all"].items():
        lines.append(
            f"| {preset} | {found['way']} | {found['evaluations']} | {found['images']} "
            f"| {_with(found, 'psnr', '+.2f')} | {_with(found, 'ms_ssim', '+.4f')} "
            f"| {found.get('single_lpips', float('nan')):.3f} "
            f"| {found['spread_ratio']:.2f} ({found['spread_ratio_paper']:.2f}) |"
        )
    return [*lines, ""]


def _with(found: dict[str, Any], metric: str, form: str) -> str:
    if f"{metric}_difference" not in found:
        return ""
    text = format(found[f"{metric}_difference"], form)
    interval = found.get(f"{metric}_interval")
    return text if interval is None else f"{text} [{interval[0]:{form}}, {interval[1]:{form}}]"
