"""Tests of what a node asks of its process."""
