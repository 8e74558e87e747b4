"""Analysis of trained models: subspaces, predictions, plots."""
