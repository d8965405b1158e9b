"""Whole clusters on a virtual clock, and the judges that watch them."""
