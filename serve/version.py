"""The version of the installed distribution."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the version of `actserve`, or `0+source` if only the source is on the path."""
    try:
        return version("actserve")
    except PackageNotFoundError:
        return "0+source"


VERSION = installed_version()
