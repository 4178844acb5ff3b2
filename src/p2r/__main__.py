"""`python -m p2r` is the command `p2r`."""

from p2r.cli import main

main()
