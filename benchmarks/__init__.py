"""Side-by-side measurements; see README.md. Each is a module to run: python -m benchmarks.NAME."""
