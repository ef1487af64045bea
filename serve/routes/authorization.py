"""The dependency that checks the scope of every route, and the authenticated caller."""

from typing import Annotated

from fastapi import Depends, Request

from serve.access.authorizer import Caller
from serve.scopes import ROUTE_SCOPES
from serve.service import Service
from serve.telemetry.context import current_request


async def authorize(request: Request) -> None:
    """Check that the caller may use the route; the application runs this before the route's other dependencies.

    Raises:
        Unauthenticated, Forbidden: see `Authorizer.authorize`.
        QuotaExceeded: a limit of the key is reached.
        EngineUnavailable: the server is starting.
    """
    required = ROUTE_SCOPES[request.method, request.scope["route"].path]
    if required is None:
        return
    service: Service = request.app.state.service
    headers = request.headers.get("authorization"), request.headers.get("x-api-key")
    caller = request.state.caller = await service.authorizer.authorize(headers, required)
    context = current_request()
    if context is not None:
        context.key_name = caller.name
    if caller.use is not None:
        request.scope["key_use"] = caller.use  # the middleware sends its headers and records its end
        caller.use.raise_if_rejected()


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]
