"""Images, masks and data sets: reading them, checking them, augmenting them."""
