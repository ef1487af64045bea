"""`python -m serve.cli` is `actserve`."""

from serve.cli.main import main

if __name__ == "__main__":
    main()
