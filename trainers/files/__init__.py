"""Files that survive crashes: arrays, JSON lines, and disks that are full."""
