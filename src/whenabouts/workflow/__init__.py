"""Stages of a longer work: what each needs and makes, which are up to date, running the others."""
