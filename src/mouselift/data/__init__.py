"""Datasets and pictures on disk, and what turns them into `Views`."""
