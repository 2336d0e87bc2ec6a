"""How sure a score and a difference are: intervals and tests, on arrays alone."""
