"""Parts that rules are built from: layers that follow the dtype and device of their input."""
