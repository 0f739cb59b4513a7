"""Images, videos, masks and data sets: reading, checking and augmenting them."""
