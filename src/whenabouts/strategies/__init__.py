"""Training strategies: short programs over fit and predict."""
