"""Addresses that callers choose: tricks that lead to this machine or its network, each with its outcome.

The resolver is a fake, because it stands for a foreign server: of names that an attacker controls.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from serve.errors import AddressRefused, FetchFailed, UnsupportedMedia
from serve.jobs.addresses import Address, check_url, is_allowed
from serve.jobs.outgoing import GuardedTransport, OutgoingClient
from serve.settings import OutgoingSettings

OPEN = OutgoingSettings(schemes=("https", "http"), ports=(80, 443))
TRICKS = {
    "loopback": "https://127.0.0.1/",
    "other loopback": "https://127.8.9.10/",
    "private class A": "https://10.0.0.1/",
    "private class B": "https://172.16.5.4/",
    "private class C": "https://192.168.1.1/",
    "link-local metadata": "http://169.254.169.254/latest/meta-data/",
    "metadata of Alibaba": "http://100.100.100.200/",
    "metadata of Azure, a public address": "http://168.63.129.16/",
    "metadata of Oracle": "http://192.0.0.192/",
    "carrier-grade NAT": "https://100.64.0.1/",
    "unspecified": "https://0.0.0.0/",
    "this network": "https://0.1.2.3/",
    "multicast": "https://224.0.0.1/",
    "broadcast": "https://255.255.255.255/",
    "reserved": "https://240.0.0.1/",
    "one decimal number": "http://2130706433/",
    "one hexadecimal number": "http://0x7f000001/",
    "hexadecimal parts": "http://0x7f.0x0.0x0.0x1/",
    "octal parts": "http://0177.0.0.1/",
    "two parts": "http://127.1/",
    "leading zeros": "http://127.000.000.001/",
    "a number with a final dot": "http://2130706433./",
    "a dotted address with a final dot": "http://127.0.0.1./",
    "IPv6 loopback": "https://[::1]/",
    "IPv6 unspecified": "https://[::]/",
    "IPv4-mapped": "https://[::ffff:127.0.0.1]/",
    "IPv4-mapped, hexadecimal": "https://[::ffff:7f00:1]/",
    "IPv4-compatible": "https://[::127.0.0.1]/",
    "6to4": "https://[2002:7f00:1::]/",
    "Teredo": "https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
    "NAT64": "https://[64:ff9b::7f00:1]/",
    "NAT64 of one network": "https://[64:ff9b:1::7f00:1]/",
    "ISATAP": "https://[2a00:1450::5efe:7f00:1]/",
    "unique local": "https://[fd00:ec2::254]/",
    "IPv6 link-local": "https://[fe80::1]/",
    "IPv6 with a zone": "https://[fe80::1%25eth0]/",
    "IPv6 multicast": "https://[ff02::1]/",
    "user name": "https://public.example@127.0.0.1/",
    "password": "https://user:password@public.example/",
    "empty user name": "https://@public.example/",
    "backslash": "https://public.example\\@127.0.0.1/",
    "full-width digits": "https://１２７.0.0.1/",
    "circled digits": "https://①②⑦.⓪.⓪.①/",
    "full-width dots": "https://127。0。0。1/",
    "line break": "https://public.example/\r\nHost: localhost",
    "space": "https://public.example /",
    "tab": "https://pub\tlic.example/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "ftp": "ftp://public.example/",
    "data": "data:video/mp4;base64,AAAA",
    "no scheme": "//127.0.0.1/",
    "another port": "https://public.example:22/",
    "port of a database": "http://public.example:6379/",
    "port 0": "https://public.example:0/",
    "no host": "https:///path",
    "too long": "https://public.example/" + "a" * 2000,
}
INTERNAL_NAMES = {
    "a name of loopback": ["127.0.0.1"],
    "a name of a private address": ["10.1.2.3"],
    "a name of the metadata address": ["169.254.169.254"],
    "a name of a public and a private address": ["93.184.215.14", "192.168.0.1"],
    "a name of a mapped address": ["::ffff:10.0.0.1"],
    "a name of a NAT64 address": ["64:ff9b::a00:1"],
    "a name without an address": [],
}


class Resolver:
    """Answers of a name server, one after the other; the last one repeats."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[Address]:
        answer = self._answers[min(len(self.asked), len(self._answers) - 1)]
        self.asked.append((host, port))
        return [ipaddress.ip_address(item) for item in answer]


@pytest.mark.parametrize("url", TRICKS.values(), ids=TRICKS)
def test_a_trick_is_refused_without_asking_a_name_server(url: str) -> None:
    with pytest.raises(AddressRefused):
        check_url(url, OPEN)


@pytest.mark.parametrize("addresses", INTERNAL_NAMES.values(), ids=INTERNAL_NAMES)
async def test_a_name_that_leads_inside_is_refused(addresses: list[str], tmp_path: Path) -> None:
    client = OutgoingClient(OPEN, resolver=Resolver(addresses))
    with pytest.raises(AddressRefused):
        await client.fetch("https://innocent.example/clip.mp4", tmp_path / "clip")
    with pytest.raises(AddressRefused):
        await client.post("https://innocent.example/hook", "{}", {})
    await client.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.mp4?x=1#t",
        "https://xn--bcher-kva.example:443/",
        "http://93.184.215.14/",
        "https://[2606:2800::1]/",
    ],
)
def test_public_addresses_are_allowed(url: str) -> None:
    assert check_url(url, OPEN).host


def test_only_https_on_its_own_port_is_allowed_by_default() -> None:
    check_url("https://example.com/", OutgoingSettings())
    for url in ("http://example.com/", "https://example.com:8443/"):
        with pytest.raises(AddressRefused):
            check_url(url, OutgoingSettings())


def test_loopback_is_allowed_for_tests_alone() -> None:
    local = OutgoingSettings(allow_loopback=True)
    assert is_allowed(ipaddress.ip_address("127.0.0.1"), local)
    assert not is_allowed(ipaddress.ip_address("127.0.0.1"), OPEN)
    for other in ("127.0.0.2", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1"):
        assert not is_allowed(ipaddress.ip_address(other), local)


class Answers:
    """A server on loopback that records its requests and answers with raw bytes."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.answers: list[bytes] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.answers[min(len(self.requests), len(self.answers)) - 1])
        await writer.drain()
        writer.close()


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    found = Answers()
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()
    await server.wait_closed()


def local(answers: Answers, **values: object) -> OutgoingSettings:
    return OutgoingSettings(
        **{"schemes": ("http",), "ports": (answers.port, 80), "allow_loopback": True, **values}  # type: ignore[arg-type]
    )


def response(body: bytes, *, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


VIDEO = b"\x00\x00\x00\x18ftypmp42" + bytes(5000)


async def test_a_name_is_resolved_once_and_the_checked_address_is_used(answers: Answers, tmp_path: Path) -> None:
    """A name server that answers differently the second time (rebinding) is not asked a second time."""
    answers.answers = [response(VIDEO)]
    resolver = Resolver(["127.0.0.1"], ["10.0.0.1"])
    client = OutgoingClient(local(answers), resolver=resolver)
    assert await client.fetch(f"http://video.example:{answers.port}/a.mp4", tmp_path / "clip") == len(VIDEO)
    assert resolver.asked == [("video.example", answers.port)]
    assert f"host: video.example:{answers.port}" in answers.requests[0].lower()
    assert (tmp_path / "clip").read_bytes() == VIDEO
    await client.close()


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "//127.0.0.2/",
        "http://0x7f.1/",
        "http://u@x/",
    ],
)
async def test_a_redirect_is_checked_again(answers: Answers, tmp_path: Path, target: str) -> None:
    answers.answers = [response(b"", status="302 Found", Location=target)]
    client = OutgoingClient(local(answers), resolver=Resolver(["127.0.0.1"]))
    with pytest.raises(AddressRefused):
        await client.fetch(f"http://video.example:{answers.port}/a.mp4", tmp_path / "clip")
    assert len(answers.requests) == 1
    await client.close()


async def test_a_redirect_to_a_name_that_leads_inside_is_refused(answers: Answers, tmp_path: Path) -> None:
    answers.answers = [response(b"", status="307 Temporary Redirect", Location="http://inner.example/")]
    client = OutgoingClient(local(answers), resolver=Resolver(["127.0.0.1"], ["192.168.0.1"]))
    with pytest.raises(AddressRefused):
        await client.fetch(f"http://video.example:{answers.port}/a.mp4", tmp_path / "clip")
    await client.close()


async def test_redirects_end(answers: Answers, tmp_path: Path) -> None:
    answers.answers = [response(b"", status="301 Moved Permanently", Location="/again")]
    client = OutgoingClient(local(answers, max_redirects=2), resolver=Resolver(["127.0.0.1"]))
    with pytest.raises(FetchFailed, match="more than 2 times"):
        await client.fetch(f"http://video.example:{answers.port}/a.mp4", tmp_path / "clip")
    assert len(answers.requests) == 3
    await client.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (response(VIDEO, status="404 Not Found"), "responded with 404"),
        (response(bytes(7000)), "larger than the 6000 bytes"),
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\x00\x00\x00\x18ftyp" + bytes(9000),
            "larger than the 6000 bytes",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n\x00\x00\x00\x18ftyp", "cannot be fetched"),
        (response(VIDEO, Content_Encoding="gzip"), "compressed"),
        (b"nonsense\r\n\r\n", "cannot be fetched"),
    ],
    ids=["status", "declared size", "size", "cut", "compressed", "no HTTP"],
)
async def test_what_is_no_file_within_the_limits_is_said_so(
    answers: Answers, tmp_path: Path, answer: bytes, words: str
) -> None:
    answers.answers = [answer]
    client = OutgoingClient(local(answers, max_bytes=6000), resolver=Resolver(["127.0.0.1"]))
    with pytest.raises(FetchFailed, match=words):
        await client.fetch(f"http://video.example:{answers.port}/a.mp4", tmp_path / "clip")
    await client.close()


@pytest.mark.parametrize(
    "body", [b"<html><body>login</body></html>" * 400, b'{"secret": 1}' * 900, b"root:x:0:0\n" * 900]
)
async def test_what_is_no_video_is_refused_by_its_first_bytes(answers: Answers, tmp_path: Path, body: bytes) -> None:
    answers.answers = [response(body)]
    client = OutgoingClient(local(answers), resolver=Resolver(["127.0.0.1"]))
    with pytest.raises(UnsupportedMedia):
        await client.fetch(f"http://video.example:{answers.port}/a.mp4", tmp_path / "clip")
    assert not (tmp_path / "clip").read_bytes(), "nothing of it is kept"
    await client.close()


async def test_a_host_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    released = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = OutgoingSettings(schemes=("http",), ports=(port,), allow_loopback=True, timeout_seconds=0.2)
    client = OutgoingClient(settings, resolver=Resolver(["127.0.0.1"]))
    with pytest.raises(FetchFailed, match="within"):
        await client.fetch(f"http://video.example:{port}/a.mp4", tmp_path / "clip")
    await client.close()
    released.set()
    server.close()
    await server.wait_closed()


async def test_proxies_of_the_environment_are_not_used(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    answers.answers = [response(VIDEO)]
    client = OutgoingClient(local(answers), resolver=Resolver(["127.0.0.1"]))
    assert await client.fetch(f"http://video.example:{answers.port}/a.mp4", tmp_path / "clip") == len(VIDEO)
    await client.close()


async def test_the_guard_is_part_of_the_transport() -> None:
    async with httpx.AsyncClient(transport=GuardedTransport(OPEN, resolver=Resolver(["10.0.0.1"]))) as client:
        with pytest.raises(AddressRefused):
            await client.get("https://innocent.example/")
