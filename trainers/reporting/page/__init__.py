"""The content of a page, its charts, and its two forms."""
