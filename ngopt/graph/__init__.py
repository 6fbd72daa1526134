"""The neural graph: from a model to spaces, axes and bundles of edges."""
