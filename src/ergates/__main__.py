"""`python -m ergates` is `erg`."""

from ergates.cli.main import main

main()
