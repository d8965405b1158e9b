"""Tests of raftkv.protocols."""
