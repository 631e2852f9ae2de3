"""What changes weights: the LightningModule, optimizers, checkpoints, and how processes are started."""
