"""Many stories of clusters under faults: apart from the other tests, since they get a time of their own."""
