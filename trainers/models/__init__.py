"""Encoders and heads, and what is done to their weights: freezing, pruning, importance."""
