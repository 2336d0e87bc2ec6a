"""Finished run directories: read, and told one by one or side by side."""
