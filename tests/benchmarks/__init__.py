"""Tests of the benchmarks: their arithmetic, their protocols and their fairness; nothing here measures time."""
