"""Networks that read networks: what they learn, how well they do, and their commands."""
