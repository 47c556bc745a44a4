"""The whole published system, and our preset, as a plan of stages, what it costs, its tables."""
