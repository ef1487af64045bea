"""Conversion of successful responses to typed documents."""

from typing import Any, TypeVar

import httpx

from serve.client.problems import UnexpectedResponse

Document = TypeVar("Document")


def parse_response(response: httpx.Response, kind: type[Document]) -> Document:
    """Return the JSON object of a response; `kind` is its `TypedDict`.

    Servers of other releases may send more or fewer fields; a document without any of the fields is an error.

    Raises:
        UnexpectedResponse: the response does not come from an actserve server.
    """
    try:
        document: Any = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise UnexpectedResponse(str(response.url), response.status_code, "no JSON object")
    fields = kind.__annotations__.keys()
    if fields and not fields & document.keys():
        raise UnexpectedResponse(str(response.url), response.status_code, "none of the fields of actserve")
    return document  # type: ignore[return-value]  # a JSON object of the server has the type of its schema
