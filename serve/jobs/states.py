"""States of jobs and of their inputs. The states of a job follow each other like this:

validating -> in_progress -> finalizing -> completed
    |              |------> cancelling -> cancelled
    |              '------> expired
    '-> failed
"""

from typing import Literal

JobStatus = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
]
InputState = Literal["pending", "running", "completed", "failed", "cancelled"]

FINISHED: tuple[JobStatus, ...] = ("completed", "failed", "expired", "cancelled")
CANCELLABLE: tuple[JobStatus, ...] = ("validating", "in_progress")
UNFINISHED: tuple[JobStatus, ...] = ("validating", "in_progress", "finalizing", "cancelling")
FINISHED_INPUT: tuple[InputState, ...] = ("completed", "failed", "cancelled")
