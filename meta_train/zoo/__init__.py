"""Zoos: populations of trained networks, made from a seed, to be read by other networks."""
