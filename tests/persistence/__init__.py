"""Tests of raftkv.persistence."""
