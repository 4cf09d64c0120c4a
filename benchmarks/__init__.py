"""The benchmarks of aiopool: `python -m benchmarks --help`."""
