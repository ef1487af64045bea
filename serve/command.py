"""`python -m serve.command` is the console command `actserve`, where it is not installed."""

from serve.cli import main

if __name__ == "__main__":
    main()
