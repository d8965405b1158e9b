"""Tests of raftkv."""
