"""Forms of real clients are read to the byte, however the network cuts them."""

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import InvalidOption, RequestError, UnsupportedMedia
from serve.multipart import MAX_HEADER_BYTES, MAX_PREAMBLE_BYTES, FormParser, Part, PartEnd, parse_boundary
from tests.serve.form_bodies import CLIENTS, LABELS, RFC_RULES, VIDEO, FormBody

Read = list[tuple[str, str | None, str | None, bytes]]
BODIES = {**CLIENTS, **RFC_RULES}


def read(content_type: str, chunks: Iterable[bytes]) -> Read:
    """(name, file name, charset, data) of each part."""
    reader, found = FormParser(content_type), []
    for chunk in chunks:
        for event in reader.feed(chunk):
            if isinstance(event, Part):
                part, data = event, b""
            elif isinstance(event, PartEnd):
                found.append((part.name, part.filename, part.charset, data))
            else:
                data += event
    reader.finish()
    return found


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """The body in pieces that end at these places."""
    edges = [0, *sorted(places), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def expect_the_form(found: Read, form: FormBody) -> None:
    parts = {name: (filename, (charset or "utf-8"), data) for name, filename, charset, data in found}
    assert (parts["video"][0], parts["video"][2]) == (form.filename, VIDEO)
    assert parts["top_k"][2] == b"2"
    assert parts["candidate_labels"][2].decode(parts["candidate_labels"][1]) == LABELS
    assert parts.keys() - {"_charset_"} == {"video", "top_k", "candidate_labels"}
    assert len(found) == len(parts)


@pytest.mark.parametrize("form", BODIES.values(), ids=BODIES.keys())
def test_a_form_is_read_however_it_is_cut(form: FormBody) -> None:
    whole = read(form.content_type, [form.body])
    expect_the_form(whole, form)
    assert read(form.content_type, [form.body[i : i + 1] for i in range(len(form.body))]) == whole
    for place in range(len(form.body) + 1):
        assert read(form.content_type, cut(form.body, [place])) == whole, place
    source = random.Random(7)
    for _ in range(50):
        places = source.sample(range(len(form.body)), k=source.randint(2, 12))
        assert read(form.content_type, cut(form.body, places)) == whole, places


@pytest.mark.parametrize("form", BODIES.values(), ids=BODIES.keys())
def test_a_form_that_was_cut_is_never_taken_for_whole(form: FormBody) -> None:
    boundary = b"--" + parse_boundary(form.content_type)
    end = form.body.index(boundary, form.body.index(VIDEO)) + len(boundary) + len("--")
    for length in range(end):
        with pytest.raises(InvalidOption):
            read(form.content_type, [form.body[:length]])
    expect_the_form(read(form.content_type, [form.body[:end]]), form)


data = st.binary(max_size=60) | st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"--", b"b", b"--b", b"\r\n--", b"\r\n--B", b"\r\n--ab", b" ", b"\x00"])
).map(b"".join)


@given(st.lists(data, min_size=1, max_size=5), st.data())
def test_data_comes_out_as_it_went_in(values: list[bytes], drawn: st.DataObject) -> None:
    values = [value for value in values if b"\n--ab" not in value and b"\r--ab" not in value]
    body = b"".join(
        b'--ab\r\nContent-Disposition: form-data; name="p%d"\r\n\r\n%s\r\n' % item for item in enumerate(values)
    )
    body += b"--ab--\r\n"
    places = drawn.draw(st.lists(st.integers(0, len(body)), max_size=8))
    found = read("multipart/form-data; boundary=ab", cut(body, places))
    assert [(name, value) for name, _, _, value in found] == [(f"p{i}", value) for i, value in enumerate(values)]


@given(st.binary(max_size=300) | data, st.lists(st.integers(0, 300), max_size=4))
def test_whatever_comes_is_read_or_refused(body: bytes, places: list[int]) -> None:
    for start in (b"", b'--b\r\nContent-Disposition: form-data; name="v"'):
        whole = start + body
        try:
            read(B, cut(whole, [min(place, len(whole)) for place in places]))
        except RequestError:
            continue


B = "multipart/form-data; boundary=b"
DISPOSITION = b"--b\r\nContent-Disposition: form-data"
CODING, KIND = b"\r\nContent-Transfer-Encoding: ", b"\r\nContent-Type: "
HEADER = b'--b\r\nContent-Disposition: form-data; name="v"'
END = b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("content_type", "body", "kind", "words"),
    [
        ("multipart/form-data", b"", InvalidOption, "has no boundary"),
        ("multipart/form-data; boundary=", b"", InvalidOption, "has no boundary"),
        ("multipart/form-data; boundary=" + "b" * 201, b"", InvalidOption, "at most 200"),
        ("multipart/form-data; boundary=\xe9", b"", InvalidOption, "printable|has no boundary|contains no line"),
        (B, b"", InvalidOption, "contains no line '--b'"),
        (B, b"--c\r\nx", InvalidOption, "contains no line '--b'"),
        (B, b"x" * (MAX_PREAMBLE_BYTES + 1), InvalidOption, "65536 bytes"),
        (B, HEADER + b"\r\n\r\nx", InvalidOption, "incomplete"),
        (B, HEADER + b"\r\n\r\nx\r\n--b-", InvalidOption, "incomplete"),
        (B, HEADER + b"\r\nX: " + b"x" * MAX_HEADER_BYTES, InvalidOption, "16384"),
        (B, HEADER + b"\r\nX: y" * 5000 + b"\r\n\r\n" + END, InvalidOption, "16384"),
        (B, b"--b\r\n\r\nvalue" + END, InvalidOption, "has no name"),
        (B, b"--b\r\nX: y\r\n\r\nvalue" + END, InvalidOption, "has no name"),
        (B, DISPOSITION + b"\r\n\r\nvalue" + END, InvalidOption, "has no name"),
        (B, DISPOSITION + b'; name=""\r\n\r\nv' + END, InvalidOption, "has no name"),
        (B, DISPOSITION + b'; name="\xff\xfe"\r\n\r\nv' + END, InvalidOption, "not valid UTF-8"),
        (B, DISPOSITION + b'; name="a\x00"\r\n\r\nv' + END, InvalidOption, "not valid UTF-8"),
        (B, HEADER + CODING + b"base64\r\n\r\nAAAA" + END, UnsupportedMedia, "base64"),
        (B, HEADER + CODING + b"Quoted-Printable\r\n\r\n=20" + END, UnsupportedMedia, "quoted-printable"),
        (B, HEADER + KIND + b"multipart/mixed; boundary=c\r\n\r\n" + END, UnsupportedMedia, "nested multipart"),
        (B, HEADER + b"\r\nContent-Encoding: gzip\r\n\r\nx" + END, UnsupportedMedia, "Content-Encoding: gzip"),
        (B, HEADER + b"\nContent-Type: video/mp4\n\nx\r\n\r\nx" + END, InvalidOption, "end with CR LF"),
        (B, HEADER + b"\rX: y\r\n\r\nx" + END, InvalidOption, "end with CR LF"),
        (B, b"--b\r\n--b--", InvalidOption, "has no name"),
        (B, b"--b\r\n--b\r\n--b--", InvalidOption, "has no name"),
        ("multipart/form-data; boundary*=idna''b", b"", InvalidOption, "has no boundary"),
        ("multipart/form-data; boundary*" + "9" * 5000 + "=b", b"", InvalidOption, "has no boundary"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_a_form_that_cannot_be_read_says_why(
    content_type: str, body: bytes, kind: type[RequestError], words: str
) -> None:
    for chunks in ([body], cut(body, range(0, len(body), 997))):
        with pytest.raises(kind, match=words):
            read(content_type, chunks)


def test_a_part_without_a_blank_line_is_empty_and_its_successor_keeps_its_name() -> None:
    body = HEADER + b"\r\n" + HEADER.replace(b'"v"', b'"w"') + b"\r\n\r\nx" + END  # RFC 2046: the line is optional
    for size in (1, 2, 3, 7, len(body)):
        parts = read(B, [body[at : at + size] for at in range(0, len(body), size)])
        assert [(name, data) for name, _, _, data in parts] == [("v", b""), ("w", b"x")]


@pytest.mark.parametrize(
    "parameter",
    ["=idna''a%C3%A4", "=undefined''a", "=punycode''%E4", "=a\0b''c", "9" * 5000 + "=a"],
    ids=["idna", "undefined", "punycode", "NUL", "number"],
)
def test_a_file_name_that_cannot_be_decoded_is_left_out(parameter: str) -> None:
    body = HEADER + b"; filename*" + parameter.encode() + b"; filename=plain" + b"\r\n\r\nx" + END
    assert read(B, [body]) == [("v", "plain", None, b"x")]


def test_padding_is_limited_however_the_form_is_cut() -> None:
    body = HEADER.replace(b"--b", b"--b" + b" " * 300) + b"\r\n\r\nx" + END
    assert read(B, [body]) == read(B, [body[at : at + 1] for at in range(len(body))]) == []


def test_the_reader_holds_little_whatever_comes() -> None:
    reader = FormParser("multipart/form-data; boundary=b")
    list(reader.feed(HEADER + b"\r\n\r\n"))
    for chunk in (b"x" * 2**20, b"\r\n--" * 2**18, b"\n" * 2**20, b"\r" * 2**20, b"\r\n--bx" * 2**17):
        list(reader.feed(chunk))
        assert reader.num_buffered_bytes < 300
    list(reader.feed(b"\r\n--b--"))
    list(reader.feed(b"epilogue" * 2**17))
    assert reader.num_buffered_bytes < 300
