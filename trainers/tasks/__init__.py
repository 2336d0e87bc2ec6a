"""What is learnt: the mathematics of each task over a batch, under the one loop."""
