"""`python -m mouselift.cli`."""

from mouselift.cli import main

main()
