"""Meta-training: learn theta, the weights of a rule, by training many small models with it."""
