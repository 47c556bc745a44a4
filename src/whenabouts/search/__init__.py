"""Search of a recipe's settings: what is searched, the study, its trials, their table and plot."""
