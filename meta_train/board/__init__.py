"""What TensorBoard shows of a run of meta-training: `tensorboard --logdir runs`."""
