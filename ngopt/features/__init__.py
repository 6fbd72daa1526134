"""Features: what a rule sees of entries, neurons and tensors, without any unit or scale."""
