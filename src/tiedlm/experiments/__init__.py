"""Recipes for the rows of the paper's tables, the demo, and its report."""
