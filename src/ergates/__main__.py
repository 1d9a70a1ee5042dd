"""`python -m ergates` is `erg`."""

from ergates.cli.main import main

if __name__ == "__main__":
    main()
