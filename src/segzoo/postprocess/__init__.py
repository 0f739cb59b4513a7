"""What refines a mask after the network."""
