"""Tests of who is in the cluster and where."""
