"""One LightningModule for each row of the benchmark. Read protocol, then learner, then ddpm."""
