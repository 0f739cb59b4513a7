"""Models: encoders, decoders and networks from papers; and functions that create, load, save and convert them."""
