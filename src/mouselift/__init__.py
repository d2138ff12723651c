"""MouseLift."""

__version__ = "0.1.0"
