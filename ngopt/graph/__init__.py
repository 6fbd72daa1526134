"""The neural graph: from a model to spaces, axes and bundles of edges."""

from ngopt.graph import operations  # noqa: F401  (registers the handlers of torch's functions)
