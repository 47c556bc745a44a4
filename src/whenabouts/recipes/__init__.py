"""Recipes: functions that return complete settings of a model and its training."""
