"""What training needs: data with its masks, augmentation of both together, losses."""
