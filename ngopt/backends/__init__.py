"""What is compiled for a device, and whether it is used."""
