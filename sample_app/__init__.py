"""A small app whose background work survives `kill -9`."""
