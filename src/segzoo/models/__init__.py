"""Models: encoders under decoders, the papers' own networks, and what creates, loads, saves and converts them."""
