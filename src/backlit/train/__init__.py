"""Training: mini-batches, updates, stopping, and the run directory that other parts read."""
