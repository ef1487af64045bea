# Generated from serve/client/asynchronous by `python -m serve.client_source`; do not edit.
"""Iteration over lists of the server, page by page."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from serve.client.calls import Call
from serve.client.synchronous.transport import Transport

Item = TypeVar("Item")
Page = TypeVar("Page")


class Pages(Generic[Item, Page]):
    """A list of the server; iterating over it requests the pages one after the other."""

    def __init__(
        self,
        transport: Transport,
        call: Call,
        page: type[Page],
        member: str,
        *,
        with_token: Callable[[Call, str], Call] = lambda call, token: call.with_query(page_token=token),
    ) -> None:
        self._transport, self._call, self._page, self._member = transport, call, page, member
        self._with_token = with_token

    def __iter__(self) -> Iterator[Item]:
        for page in self.pages():
            document: Any = page
            yield from document[self._member]

    def pages(self) -> Iterator[Page]:
        """Yield the documents of the pages, which contain more than the items."""
        call = self._call
        while True:
            page = self._transport.send_for(call, self._page)
            yield page
            document: Any = page
            token = document["next_page_token"]
            if token is None:
                return
            call = self._with_token(self._call, token)
