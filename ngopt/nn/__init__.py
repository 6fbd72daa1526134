"""Layers that follow the dtype and device of their input, for rules and for encoders alike."""
