"""Inner training with a rule, many runs side by side, differentiable with respect to theta."""
