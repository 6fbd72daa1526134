"""Networks that read networks: encoders of trained models, on the same graph as the optimizer's."""
