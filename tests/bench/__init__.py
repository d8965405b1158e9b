"""Tests of the generator of load and of what surrounds it."""
