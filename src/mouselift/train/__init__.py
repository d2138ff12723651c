"""Training: one loop, three tasks."""
