"""The optimizer around a rule: one pure update, and torch's contract around it."""
