"""Admission of requests that compute: a check before the upload, and a slot after it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request

from serve.admission.clients import client_of
from serve.background import in_background
from serve.routes.disconnection import cancel_on_disconnect
from serve.service import Service

Result = TypeVar("Result")
TEXTS_PER_VIEW = 16  # encoding so many texts takes about as long as encoding one view


def check_room(request: Request, service: Service) -> None:
    """Check before the upload of a request that it would get a place in the queue now.

    The number of views is only known if the options are in the query; otherwise one view is assumed.

    Raises:
        Overloaded: there is no place.
    """
    clips, crops = (request.query_params.get(name, "1") for name in ("num_clips", "num_crops"))
    views = int(clips) * int(crops) if clips.isdecimal() and crops.isdecimal() and len(clips + crops) < 5 else 1
    service.slots.check(client_of(request), views=max(1, views))


async def run_in_slot(
    request: Request,
    service: Service,
    work: Callable[[], Awaitable[Result]],
    *,
    views: int,
    deadline: float,
    is_bulk: bool = False,
) -> Result:
    """Wait for a slot, run `work` in it and return its result; both are cancelled when the client disconnects.

    Bulk work computes while no interactive request waits, see `serve.background`.

    Raises:
        Overloaded: there is no place in the queue, or the slot would come after the deadline.
        ClientDisconnected: the client closed the connection.
    """

    async def run_in_background() -> Result:
        with in_background(service.lane):
            return await work()

    slot = service.slots.run(
        client_of(request), views, run_in_background if is_bulk else work, deadline=deadline, is_bulk=is_bulk
    )
    return await cancel_on_disconnect(request, slot)
