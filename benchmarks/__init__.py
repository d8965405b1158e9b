"""Measurements of raftkv: ``python -m benchmarks.NAME --help``."""
