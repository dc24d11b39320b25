"""What a checkpoint is worth: measured on held-out sequence, beside simple models trained on the same data."""
