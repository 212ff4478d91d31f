"""pix2pix as a method: a training step against plain PyTorch, its budget, its keyed samples, its range."""

import copy

import lightning
import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from ddpm_lightning.diffusion.randomness import KeyedNoise
from ddpm_lightning.inference.tiling import Tiler
from ddpm_lightning.models.pix2pix import Pix2Pix, canvas_channels, level_noise
from ddpm_lightning.models.sampling import samples_of
from ddpm_lightning.networks.pix2pix import PatchDiscriminator, Pix2PixGenerator
from ddpm_lightning.training.lr_schedules import LinearFall, Plateau
from ddpm_lightning.training.module import LightningMethod
from ddpm_lightning.utils.errors import UserError


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.999))


def pix2pix(num_downs: int = 6, **settings) -> Pix2Pix:
    torch.manual_seed(0)
    generator = Pix2PixGenerator(num_downs=num_downs, filters=4)
    return Pix2Pix(generator, PatchDiscriminator(filters=4), **settings)


def crops(count: int = 4, side: int = 64) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 2, 1, side, side, generator=generator) * 2 - 1
    return [{"low": low, "high": high, "name": f"crop {n}"} for n, (low, high) in enumerate(images)]


def fit(model: Pix2Pix, steps: int, side: int = 64, lr_schedule=None) -> lightning.Trainer:
    loader = DataLoader(crops(side=side), batch_size=2)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    module = LightningMethod(model, adam, lr_schedule)
    trainer.fit(module, loader, DataLoader(crops(2, side), batch_size=2))
    return trainer


def test_a_step_is_that_of_plain_pytorch():
    """Discriminator first, then the generator against the new discriminator; without dropout, so nothing is random."""
    model = pix2pix(num_downs=5)
    generator, discriminator = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    fit(model, 1, side=32)

    batch = next(iter(DataLoader(crops(side=32), batch_size=2)))
    low, high = batch["low"], batch["high"]
    for_discriminator, for_generator = adam(discriminator.parameters()), adam(generator.parameters())
    restored = generator(low)
    logits = discriminator(low, high), discriminator(low, restored.detach())
    labels = torch.ones_like(logits[0]), torch.zeros_like(logits[1])
    losses = [functional.binary_cross_entropy_with_logits(*pair) for pair in zip(logits, labels, strict=True)]
    (sum(losses) / 2).backward()
    for_discriminator.step()
    logits = discriminator(low, restored)
    deceived = functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    (deceived + 100 * (restored - high).abs().mean()).backward()
    for_generator.step()

    for ours, reference in ((model.generator, generator), (model.discriminator, discriminator)):
        for (name, weight), expected in zip(ours.named_parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(weight, expected, msg=name, rtol=1e-4, atol=1e-6)


def test_a_run_of_n_steps_is_n_batches():
    trainer = fit(pix2pix(), 3)
    assert trainer.global_step == 3
    assert trainer.fit_loop.epoch_loop.batch_progress.total.completed == 3
    assert {"train/loss", "train/discriminator", "val/loss"} <= set(trainer.callback_metrics)


def test_both_learning_rates_follow_the_schedule():
    trainer = fit(pix2pix(), 4, lr_schedule=LinearFall())
    rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
    assert rates == pytest.approx([1e-3 * (1 - (4 + 1 - 2) / (2 + 1))] * 2)
    with pytest.raises(UserError, match="linear_fall"):
        fit(pix2pix(), 1, lr_schedule=Plateau())


def test_samples_differ_and_are_the_same_alone_and_in_any_batch():
    model, low = pix2pix().eval(), crops(1)[0]["low"][None]
    one_by_one = list(samples_of(model, low, "image", range(3), batch=1))
    for ours, other in zip(samples_of(model, low, "image", range(3), batch=3), one_by_one, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)
    assert not torch.equal(one_by_one[0], one_by_one[1])
    assert not model.deterministic and model.preset == "dropout"


def test_without_dropout_there_is_one_sample():
    low = crops(1)[0]["low"][None]
    for model in (pix2pix(test_mode="eval"), pix2pix(num_downs=5)):
        (sample,) = samples_of(model.eval(), low, "image", range(3))
        torch.testing.assert_close(sample, model.generator(low))


def test_batch_statistics_are_those_of_each_image_and_are_forgotten():
    model = pix2pix(test_mode="train").eval()
    before = copy.deepcopy(model.state_dict())
    low = torch.cat([crops(2)[n]["low"][None] for n in range(2)])
    noise = KeyedNoise(0, ["a", "b"], [0, 0])
    with torch.no_grad():
        together = model.sample(low, noise)
        alone = model.sample(low[1:], KeyedNoise(0, ["b"], [0]))
    torch.testing.assert_close(together[1:], alone)
    assert not torch.allclose(together, pix2pix().eval().sample(low, noise), atol=1e-3)
    assert not any(layer.training for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    for name, value in model.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("num_downs", "filters", "channels"), [(8, 64, 4), (7, 64, 3), (6, 4, 1)])
def test_the_canvas_holds_the_noise_of_all_levels(num_downs, filters, channels):
    with torch.device("meta"):
        generator = Pix2PixGenerator(num_downs=num_downs, filters=filters)
    side = 2**num_downs
    assert canvas_channels(generator) == channels
    canvas = torch.arange(2 * channels * side**2).reshape(2, channels, side, side)
    noise = level_noise(generator, canvas)
    assert [tuple(level.shape[1:]) for level in noise] == generator.noise_shapes(side, side)
    values = torch.cat([level.flatten() for level in noise])
    assert len(values.unique()) == len(values), "no number is used twice"


def test_a_tile_has_the_noise_of_its_place():
    generator = Pix2PixGenerator(num_downs=7, filters=4)
    canvas = torch.rand(1, canvas_channels(generator), 256, 256)
    whole, tile = level_noise(generator, canvas), level_noise(generator, canvas[:, :, 128:, :128])
    for level, ours, other in zip(generator.dropout_levels, tile, whole, strict=True):
        assert torch.equal(ours, other[:, :, 128 >> level :, : 128 >> level])
    (sample,) = samples_of(pix2pix().eval(), torch.zeros(1, 1, 150, 90), "image", [0], apply=Tiler(64, 8, 64))
    assert sample.shape == (1, 1, 150, 90) and sample.isfinite().all()


def test_the_range_reaches_the_bounds_of_clean_images():
    model = pix2pix()
    model.bounds = (-1.2, 3.0)
    ends = model.stretch(torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([-1.2, 0.9, 3.0]))


def test_unknown_mode():
    with pytest.raises(ValueError, match="dropout_only, eval, train"):
        pix2pix(test_mode="random")
