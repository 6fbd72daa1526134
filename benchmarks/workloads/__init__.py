"""Public kinds of training, each with the optimizer and schedule of its own recipe."""
