"""Where a run's numbers go: its own files, Weights & Biases, and the terminal."""
