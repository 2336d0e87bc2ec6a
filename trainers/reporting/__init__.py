"""Finished runs -> pages. ``page`` knows blocks alone; ``runs`` uses it for one run and for several side
by side; ``study`` uses both, and ``statistics``, for a whole grid."""
