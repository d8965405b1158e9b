"""Tests of the ``raftkv`` command; its conversations with real nodes are in ``tests/functional``."""
