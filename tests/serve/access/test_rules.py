"""Hosts, origins and fetch metadata: what is accepted and what is refused."""

import pytest
from pydantic import ValidationError
from starlette.datastructures import Headers

from serve.access.rules import BrowserRules, host_name
from serve.http_settings import HttpSettings


def rules(listen_on: str = "127.0.0.1", hosts: str = "", origins: str = "") -> BrowserRules:
    http = HttpSettings(allowed_hosts=hosts, cors_origins=origins)
    return BrowserRules.of(listen_on=listen_on, hosts=http.hosts, origins=http.origins)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:8080", "localhost"),
        ("localhost.", "localhost"),
        ("[::1]:80", "::1"),
        ("127.0.0.1:65535", "127.0.0.1"),
        ("", None),
        ("user@localhost", None),
        ("localhost:port", None),
        ("localhost:99999", None),
        ("localhost/path", None),
        ("localhost?x", None),
        ("[::1", None),
        ("a b", "a b"),  # no server has this name
    ],
)
def test_the_name_of_a_host_header(header: str, name: str | None) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("listen_on", "hosts", "header", "is_accepted"),
    [
        ("127.0.0.1", "", "localhost:8080", True),
        ("127.0.0.1", "", "evil.example", False),
        ("127.0.0.1", "", "localhost.evil.example", False),
        ("127.0.0.1", "", "127.0.0.1.nip.io", False),
        ("127.0.0.1", "", "1.2.3", False),  # no address, so a name
        ("0.0.0.0", "", "10.0.0.5", True),
        ("0.0.0.0", "", "gateway:8080", True),
        ("0.0.0.0", "", "app.localhost", True),
        ("0.0.0.0", "", "gateway.", True),
        ("0.0.0.0", "", "", False),
        ("10.0.0.5", "", "10.0.0.5:8080", True),
        ("10.0.0.5", "", "localhost", True),
        ("0.0.0.0", "actions.example", "ACTIONS.example", True),
        ("0.0.0.0", "actions.example", "localhost", False),
        ("0.0.0.0", "*.example", "a.b.example", True),
        ("0.0.0.0", "*.example", "example", False),
        ("0.0.0.0", "*.example", "badexample", False),
        ("0.0.0.0", "*", "anything.example", True),
        ("::1", "[fd00::1], localhost", "[FD00::1]:80", True),
    ],
)
def test_the_names_of_a_server(listen_on: str, hosts: str, header: str, is_accepted: bool) -> None:
    assert rules(listen_on, hosts).accepts_host(header) == is_accepted


@pytest.mark.parametrize(
    ("headers", "is_accepted"),
    [
        ({}, True),  # curl and other programs
        ({"origin": "http://localhost:8080"}, True),
        ({"origin": "https://localhost:8080"}, True),  # a proxy in front ends TLS
        ({"origin": "http://localhost:3000"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://evil.example", "sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:3000"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "https://public.example"}, True),  # a proxy rewrites Host
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "https://app.example.com"}, True),
        ({"sec-fetch-site": "something"}, False),
    ],
)
def test_the_source_of_a_change(headers: dict[str, str], is_accepted: bool) -> None:
    given = rules(origins="https://APP.example.com")
    assert given.accepts_source(Headers({"host": "localhost:8080", **headers})) == is_accepted


@pytest.mark.parametrize(
    "values",
    [
        {"allowed_hosts": "localhost:8080"},
        {"allowed_hosts": "http://localhost"},
        {"allowed_hosts": "a b"},
        {"cors_origins": "*"},
        {"cors_origins": "https://app.example.com/"},
        {"cors_origins": "app.example.com"},
        {"cors_origins": "https://app.example.com:65536"},
        {"cors_origins": "https://app.example.com:0"},
        {"trusted_proxies": "proxy"},
        {"trusted_proxies": "10.0.0.1/8"},
        {"root_path": "actions"},
        {"root_path": "/actions/"},
    ],
)
def test_settings_that_cannot_be_used_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        HttpSettings(**values)
