"""Pure functions of tensors, recorded once and run again without Python or a dispatcher."""
