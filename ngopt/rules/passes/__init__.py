"""Passes over the entries of a bundle: by operations of torch, or by compiled loops."""
