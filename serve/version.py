"""The version of the installed distribution."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Version of `actserve`, or `0+source` where only the source lies on the path."""
    try:
        return version("actserve")
    except PackageNotFoundError:
        return "0+source"


VERSION = installed_version()
