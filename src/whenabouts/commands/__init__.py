"""The commands: arguments in, calls to the rooms below, results out."""
