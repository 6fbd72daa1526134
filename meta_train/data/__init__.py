"""What the models of tasks learn from: tensors in memory, found through `NGOPT_DATA`."""
