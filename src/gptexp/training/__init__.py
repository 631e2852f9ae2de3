"""Training a run: the LightningModule, optimizers and schedules, the recorder, held-out passes, and crash replay."""
