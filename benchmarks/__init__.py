"""Benchmarks: `python -m benchmarks` measures what the README states."""
