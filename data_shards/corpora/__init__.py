"""Readers of raw corpora: each lists what a corpus holds and says how to load one item of it."""
