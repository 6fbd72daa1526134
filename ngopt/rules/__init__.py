"""Rules: networks and formulas that turn gradients into updates."""
