"""The log file of a run: all messages of the trainer, and the error that ended the run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG_NAME = "train.log"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def log_file(path: Path, *, is_enabled: bool) -> Iterator[None]:
    """Append the messages of the logger `training` to a file while the context is active.

    A resumed run appends to the same file. An exception that leaves the context is logged as the last line.
    """
    if not is_enabled:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handler, logger = logging.FileHandler(path, encoding="utf-8"), logging.getLogger("training")
    handler.setFormatter(logging.Formatter(FORMAT))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    try:
        yield
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
        handler.emit(logger.makeRecord(logger.name, logging.ERROR, __file__, 0, text, (), None))
        raise
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
