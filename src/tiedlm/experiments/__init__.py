"""Recipes (a row of the paper is a recipe), the demo, and its report."""
