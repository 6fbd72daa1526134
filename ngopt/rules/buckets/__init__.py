"""The default rule on buckets: bundles of one shape, stacked, in as few operations as can be."""
