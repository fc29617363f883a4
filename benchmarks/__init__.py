"""Benchmarks: `make bench`, or `python -m benchmarks.run --only postgresql --repeat 3 --scale 0.1`."""
