"""Iteration over lists of the server, page by page."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from serve.client.asynchronous.transport import AsyncTransport
from serve.client.calls import Call

Item = TypeVar("Item")
Page = TypeVar("Page")


class AsyncPages(Generic[Item, Page]):
    """A list of the server; iterating over it requests the pages one after the other."""

    def __init__(
        self,
        transport: AsyncTransport,
        call: Call,
        page: type[Page],
        member: str,
        *,
        with_token: Callable[[Call, str], Call] = lambda call, token: call.with_query(page_token=token),
    ) -> None:
        self._transport, self._call, self._page, self._member = transport, call, page, member
        self._with_token = with_token

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for page in self.pages():
            document: Any = page
            for item in document[self._member]:
                yield item

    async def pages(self) -> AsyncIterator[Page]:
        """Yield the documents of the pages, which contain more than the items."""
        call = self._call
        while True:
            page = await self._transport.send_for(call, self._page)
            yield page
            document: Any = page
            token = document["next_page_token"]
            if token is None:
                return
            call = self._with_token(self._call, token)
