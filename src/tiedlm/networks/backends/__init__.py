"""Fast versions of what the networks compute, each beside the readable code that defines it."""
