"""`python -m cfkit`."""

from .cli import main

main()
