"""Everything that a training needs to go on, written and read back without pickle."""
