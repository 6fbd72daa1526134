"""TensorBoard: what a training run does, and what a rule decides inside."""
