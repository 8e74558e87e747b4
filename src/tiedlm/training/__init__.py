"""Training: settings, schedule, the loop, checkpoints and run folders."""
