"""The page of a study: its folder read, methods grouped, compared, and told."""
