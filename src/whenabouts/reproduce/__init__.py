"""The whole published system as a plan of stages, what it costs, and its tables."""
