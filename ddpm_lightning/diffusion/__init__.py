"""Denoising diffusion as mathematics: schedule, process, objective, samplers, ensemble, keyed randomness."""
