"""Reports of finished runs: reading a run directory, the content of a report, and its two forms."""
