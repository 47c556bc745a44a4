"""Fit and predict: one visible loop, checkpoints that resume exactly, scores as a stream."""
