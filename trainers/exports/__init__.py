"""Trained models as folders that transformers loads."""
