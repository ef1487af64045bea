"""`python -m serve` is `actserve serve`."""

import sys

from serve.cli.main import main

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
