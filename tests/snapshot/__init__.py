"""Tests of raftkv.snapshot."""
