"""Restores image files (TIFF, OME-Zarr; CZI, LIF and ND2 with the extra `microscopes`) with a trained model.

Examples:
  ddpm-lightning restore checkpoint=default input=noisy.tif output=restored preview=true
  ddpm-lightning restore checkpoint=CKPT input=FOLDER output=restored samples=15 preview=true
  ddpm-lightning restore checkpoint=CKPT "input='day1/*.tif'" output=restored plan=true
  ddpm-lightning restore checkpoint=CKPT input=plate.zarr/A/1/0 output=restored
  ddpm-lightning restore checkpoint=CKPT input=[a.tif,b.tif] output=restored entropy=true single=true processes=2
  ddpm-lightning restore checkpoint=CKPT input=stack.tif output=restored preset=fast channels=[1]
  ddpm-lightning restore checkpoint=CKPT input=stack.tif output=restored preset=uncertainty samples=50 tolerance=0.01
  ddpm-lightning restore checkpoint=CKPT input=stack.tif output=restored sampler=ddim sampler.steps=10
  ddpm-lightning restore checkpoint=default input=movie.tif output=restored scale=bleaching noise=shared
  ddpm-lightning restore --multirun shard=0/2,1/2 checkpoint=CKPT input=FOLDER output=restored hydra/launcher=slurm
  ddpm-lightning restore checkpoint=default input=stack.tif output=restored projections=[max,mean,profile]
  ddpm-lightning restore checkpoint=CKPT input=FOLDER output=counted readout=[count,filament_length]

preset=NAME selects a sampler and a number of samples: mean (the default), paper, uncertainty, realistic, fast or
one_step for diffusion models; mean (the default), realistic, balanced, fast, one_step and, with residual_flow,
uncertainty for flows; mean (the default), uncertainty or realistic for scored; one_pass for all others. samples=N and
sampler=ancestral, ddim, dpm_solver, one_step, euler, midpoint, heun or stored (with sampler.steps=N and so on) take
precedence.

The planes of a stack share an intensity scale (scale=stack, bleaching or plane), and the start noise of their samples
changes as fast as the planes do (noise=correlated, shared or independent), so that each sample is a coherent volume or
movie. average_neighbours=3 averages each plane with its neighbours where they agree within their uncertainty.

Leaves in the output folder: NAME.tif with the same axes, data type and pixel size; NAME_std.tif, the standard deviation
in units of the image (over the samples, or as estimated by a network), scaled to the size of the error if the model is
calibrated; restore.json with the model, the settings, and for each file the clipped pixels, the blank planes, and
warnings if it differs from the training images, noise is left or structure is removed. On request also
NAME_entropy.tif, NAME_interval_low.tif and _high.tif (for a calibrated model), NAME_sample_01.tif and so on,
preview/NAME.png, readouts.csv (numbers with intervals), and for stacks projections with their standard deviation
(NAME_max.tif, NAME_max_std.tif and so on, NAME_profile.csv).

To resume an interrupted job, repeat the command. A file that cannot be restored is reported and skipped, and the exit
code is then 3; with on_error=stop, the job stops there.
"""

from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.inference.restore_folder import RestoreSettings, plan_folder, restore_folder

__all__ = ["run"]


def run(config: DictConfig) -> int:
    """Restores as the configuration says; returns 3 if some files failed."""
    settings = compose.settings(config, RestoreSettings)
    if settings.plan:
        print(plan_folder(settings))
        return 0
    done = restore_folder(settings)
    if done.records:  # nothing in processes other than the first
        print(done)
    return 3 if done.failed else 0
