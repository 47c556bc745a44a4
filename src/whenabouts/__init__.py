"""Find when each topic appears in a video."""

__version__ = "0.1.0"
