"""Forms as clients write them on the wire: the same file and two fields, byte by byte.

Each row is what a client's own code puts out for `video` (VIDEO, called FILENAME) and the fields `top_k` and
`candidate_labels`; what differs between clients is quoting, header order, further part headers, and what stands before
the first and after the last boundary.
"""

from dataclasses import dataclass

VIDEO = b"\x00\x00\x00\x20ftypisom\r\n--not the boundary\r\n-\r\n--\r\n\r--\xff\xfe\r"
LABELS = "walking,marcher à grands pas"


@dataclass(frozen=True, kw_only=True)
class FormBody:
    """What a client sends."""

    content_type: str
    body: bytes
    filename: str | None  # as the server is to show it


def _form(boundary: str, *parts: tuple[str, bytes], before: bytes = b"", after: bytes = b"\r\n") -> bytes:
    """Parts of (header lines without their last line end, data) between plain boundaries."""
    lines = before
    for headers, data in parts:
        lines += f"--{boundary}\r\n{headers}\r\n\r\n".encode("utf-8", "surrogateescape") + data + b"\r\n"
    return lines + f"--{boundary}--".encode() + after


def _usual(boundary: str, file: str, field: str, **ends: bytes) -> bytes:
    """The two fields under the header lines `field` (with a {} for the name), then the file under `file`."""
    return _form(
        boundary,
        (field.format("top_k"), b"2"),
        (field.format("candidate_labels"), LABELS.encode()),
        (file, VIDEO),
        **ends,
    )


QUOTED = 'Content-Disposition: form-data; name="{}"'
FILE = 'Content-Disposition: form-data; name="video"; filename="clip.mp4"'
KINDS = "multipart/form-data; boundary="


def _body(boundary: str, body: bytes, *, filename: str | None = "clip.mp4", header: str | None = None) -> FormBody:
    return FormBody(content_type=header or KINDS + boundary, body=body, filename=filename)


CLIENTS: dict[str, FormBody] = {
    "curl": _body(
        "------------------------d74496d66958873e",
        _usual("------------------------d74496d66958873e", FILE + "\r\nContent-Type: video/mp4", QUOTED),
    ),
    "curl before 7.81, escaped quotes": _body(
        "------------------------d74496d66958873e",
        _usual(
            "------------------------d74496d66958873e",
            'Content-Disposition: form-data; name="video"; filename="a \\"b\\" \\\\ c.mp4"',
            QUOTED,
        ),
        filename='a "b" \\ c.mp4',
    ),
    "Chrome": _body(
        "----WebKitFormBoundary7MA4YWxkTrZu0gW",
        _usual(
            "----WebKitFormBoundary7MA4YWxkTrZu0gW",
            'Content-Disposition: form-data; name="video"; filename="a %22b%22 ü.mp4"\r\nContent-Type: video/mp4',
            QUOTED,
        ),
        filename='a "b" ü.mp4',
    ),
    "Firefox": _body(
        "---------------------------735323031399963166993862150",
        _usual("---------------------------735323031399963166993862150", FILE + "\r\nContent-Type: video/mp4", QUOTED),
    ),
    "Firefox since 110": _body(
        "----geckoformboundary5f2a8a2e34bcf1ad60ed5ec2b8f6c1a",
        _usual("----geckoformboundary5f2a8a2e34bcf1ad60ed5ec2b8f6c1a", FILE + "\r\nContent-Type: video/mp4", QUOTED),
    ),
    "Safari": _body(
        "----WebKitFormBoundaryEpgWWAYpE9AA0sLe",
        _usual("----WebKitFormBoundaryEpgWWAYpE9AA0sLe", FILE + "\r\nContent-Type: video/mp4", QUOTED),
    ),
    "browser, _charset_ field": _body(
        "----b",
        _form(
            "----b",
            (QUOTED.format("_charset_"), b"UTF-8"),
            (QUOTED.format("top_k"), b"2"),
            (QUOTED.format("candidate_labels"), LABELS.encode()),
            (FILE, VIDEO),
        ),
    ),
    "old browser, Latin-1 file name": _body(
        "XbX",
        _usual("XbX", 'Content-Disposition: form-data; name="video"; filename="na\udcefve.mp4"', QUOTED),
        filename="naïve.mp4",
    ),
    "Internet Explorer, whole path": _body(
        "---------------------------7d81a0162a0402",
        _usual(
            "---------------------------7d81a0162a0402",
            'Content-Disposition: form-data; name="video"; filename="C:\\clips\\clip.mp4"',
            QUOTED,
        ),
        filename="C:\\clips\\clip.mp4",
    ),
    "Python requests": _body(
        "0d2ff9c3a3d14e0d9f3fbfbd0ad7f7a9", _usual("0d2ff9c3a3d14e0d9f3fbfbd0ad7f7a9", FILE, QUOTED)
    ),
    "Python requests with urllib3 1, RFC 2231 name": _body(
        "0d2ff9c3a3d14e0d9f3fbfbd0ad7f7a9",
        _usual(
            "0d2ff9c3a3d14e0d9f3fbfbd0ad7f7a9",
            "Content-Disposition: form-data; name=\"video\"; filename*=utf-8''na%C3%AFve.mp4",
            QUOTED,
        ),
        filename="naïve.mp4",
    ),
    "Python httpx": _body(
        "9f1c6b0e4dd24f0c8f4f0c54b8e83b2e",
        _usual("9f1c6b0e4dd24f0c8f4f0c54b8e83b2e", FILE + "\r\nContent-Type: video/mp4", QUOTED),
    ),
    "Python aiohttp": _body(
        "5b0f4c8d0f0e4f5b8a0f3d7c2c3a7c55",
        _usual(
            "5b0f4c8d0f0e4f5b8a0f3d7c2c3a7c55",
            'Content-Type: video/mp4\r\nContent-Disposition: form-data; name="video"; filename="na%C3%AFve.mp4"; '
            "filename*=utf-8''na%C3%AFve.mp4",
            'Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name="{}"',
        ),
        filename="naïve.mp4",
    ),
    "Ruby multipart-post, one more line end": _body(
        "-----------RubyMultipartPost",
        _usual(
            "-----------RubyMultipartPost",
            'Content-Disposition: form-data; name="video"; filename="clip.mp4"\r\nContent-Length: 50\r\n'
            "Content-Type: video/mp4\r\nContent-Transfer-Encoding: binary",
            QUOTED,
            after=b"\r\n\r\n",
        ),
    ),
    "Ruby Net::HTTP": _body(
        "dGhpcyBpcyBhIGJvdW5kYXJ5", _usual("dGhpcyBpcyBhIGJvdW5kYXJ5", FILE + "\r\nContent-Type: video/mp4", QUOTED)
    ),
    "Retrofit 1": _body(
        "1f5a2b6e-8a47-4b1f-9f5c-3a1b8d8a61a2",
        _usual(
            "1f5a2b6e-8a47-4b1f-9f5c-3a1b8d8a61a2",
            FILE + "\r\nContent-Type: video/mp4\r\nContent-Length: 50\r\nContent-Transfer-Encoding: binary",
            QUOTED
            + "\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 1\r\nContent-Transfer-Encoding: 8bit",
            after=b"\r\n\r\n",
        ),
    ),
    "Java OkHttp": _body(
        "1f5a2b6e-8a47-4b1f-9f5c-3a1b8d8a61a2",
        _usual(
            "1f5a2b6e-8a47-4b1f-9f5c-3a1b8d8a61a2",
            FILE + "\r\nContent-Type: video/mp4\r\nContent-Length: 50",
            QUOTED + "\r\nContent-Length: 1",
        ),
    ),
    "Java Apache HttpClient": _body(
        "aBcDeF-_0123456789",
        _usual(
            "aBcDeF-_0123456789",
            FILE + "\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary",
            QUOTED + "\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit",
        ),
        header="multipart/form-data; boundary=aBcDeF-_0123456789; charset=UTF-8",
    ),
    "JavaMail, unquoted boundary with '=', folded header": _body(
        "----=_Part_0_1330982.1700000000000",
        _usual(
            "----=_Part_0_1330982.1700000000000",
            "Content-Type: video/mp4; name=clip.mp4\r\nContent-Transfer-Encoding: binary\r\n"
            'Content-Disposition: form-data; name="video";\r\n filename="clip.mp4"',
            'Content-Disposition: form-data;\r\n\tname="{}"',
        ),
    ),
    "Java Spring RestTemplate": _body(
        "q8HVxYw_pXl0",
        _usual(
            "q8HVxYw_pXl0",
            FILE + "\r\nContent-Type: video/mp4\r\nContent-Length: 50",
            QUOTED + "\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: 1",
        ),
        header="multipart/form-data;boundary=q8HVxYw_pXl0",
    ),
    ".NET HttpClient": _body(
        "8d8c2a9e-44f2-4d5c-a2cb-0b9a8c4f5e11",
        _usual(
            "8d8c2a9e-44f2-4d5c-a2cb-0b9a8c4f5e11",
            "Content-Disposition: form-data; name=video; filename=clip.mp4; filename*=utf-8''clip.mp4",
            "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name={}",
        ),
        header='multipart/form-data; boundary="8d8c2a9e-44f2-4d5c-a2cb-0b9a8c4f5e11"',
    ),
    ".NET HttpClient, name outside ASCII": _body(
        "8d8c2a9e",
        _usual(
            "8d8c2a9e",
            'Content-Disposition: form-data; name=video; filename="=?utf-8?B?bmHDr3ZlLm1wNA==?="; '
            "filename*=utf-8''na%C3%AFve.mp4",
            "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name={}",
        ),
        header='multipart/form-data; boundary="8d8c2a9e"',
        filename="naïve.mp4",
    ),
    "Go mime/multipart": _body(
        "b9580db0a7a5b3a2c3c7e3a4e0f3d4d1c5e6f708192a3b4c5d6e7f801234",
        _usual(
            "b9580db0a7a5b3a2c3c7e3a4e0f3d4d1c5e6f708192a3b4c5d6e7f801234",
            FILE + "\r\nContent-Type: application/octet-stream",
            QUOTED,
        ),
    ),
    "PHP Guzzle": _body(
        "54f3b1c2d9e8a7061524334251607f8e9d0c1b2a",
        _usual(
            "54f3b1c2d9e8a7061524334251607f8e9d0c1b2a",
            FILE + "\r\nContent-Length: 50\r\nContent-Type: video/mp4",
            QUOTED + "\r\nContent-Length: 1",
        ),
    ),
    "Node form-data": _body(
        "--------------------------515890814546601021194782",
        _usual("--------------------------515890814546601021194782", FILE + "\r\nContent-Type: video/mp4", QUOTED),
    ),
    "Node undici": _body(
        "----formdata-undici-0123456789ab",
        _usual("----formdata-undici-0123456789ab", FILE + "\r\nContent-Type: video/mp4", QUOTED, after=b"\r\n"),
    ),
    "Rust reqwest": _body(
        "c2f5a1b3-d4e6f708-91a2b3c4-d5e6f701", _usual("c2f5a1b3-d4e6f708-91a2b3c4-d5e6f701", FILE, QUOTED)
    ),
    "Dart http": _body(
        "dart-http-boundary-+x.y_Z0123456789",
        _usual(
            "dart-http-boundary-+x.y_Z0123456789",
            'content-type: video/mp4\r\ncontent-disposition: form-data; name="video"; filename="clip.mp4"',
            'content-disposition: form-data; name="{}"',
        ),
    ),
    "Swift Alamofire": _body(
        "alamofire.boundary.4a5c3d2e1f0b9a88",
        _usual("alamofire.boundary.4a5c3d2e1f0b9a88", FILE + "\r\nContent-Type: video/mp4", QUOTED),
    ),
    "Perl LWP": _body("xYzZY", _usual("xYzZY", FILE + "\r\nContent-Type: video/mp4", QUOTED)),
    "PowerShell, hand-written, no line end at the end": _body("b", _usual("b", FILE, QUOTED, after=b"")),
}

RFC_RULES: dict[str, FormBody] = {
    "preamble (RFC 2046, 5.1.1)": _body(
        "XbX", _usual("XbX", FILE, QUOTED, before=b"This is a multi-part message in MIME format.\r\n")
    ),
    "preamble that looks like a boundary": _body("XbX", _usual("XbX", FILE, QUOTED, before=b"--Xb\r\n--XbY\r\n\r\n")),
    "line end before the first boundary": _body("XbX", _usual("XbX", FILE, QUOTED, before=b"\r\n")),
    "epilogue": _body("XbX", _usual("XbX", FILE, QUOTED, after=b"\r\nignored\r\n--XbX\r\nmore")),
    "white space after boundaries": _body(
        "XbX", _usual("XbX", FILE, QUOTED).replace(b"--XbX\r\n", b"--XbX \t \r\n").replace(b"--XbX--", b"--XbX-- \t")
    ),
    "line ends after the closing boundary": _body("XbX", _usual("XbX", FILE, QUOTED, after=b"\r\n" * 50)),
    "quoted boundary with spaces": _body(
        "gc0p4Jq0M2Yt08j34c0p (x)",
        _usual("gc0p4Jq0M2Yt08j34c0p (x)", FILE, QUOTED),
        header='Multipart/Form-Data; charset=utf-8; BOUNDARY="gc0p4Jq0M2Yt08j34c0p (x)"',
    ),
    "every character a boundary may hold": _body(
        "'()+_,-./:=?0aZ",
        _usual("'()+_,-./:=?0aZ", FILE, QUOTED),
        header='multipart/form-data; boundary="\'()+_,-./:=?0aZ"',
    ),
    "header names in capitals, no space after the colon": _body(
        "XbX",
        _usual(
            "XbX",
            'CONTENT-DISPOSITION:form-data;name="video";filename="clip.mp4"',
            'content-disposition:FORM-DATA;NAME="{}"',
        ),
    ),
    "unknown part headers": _body("XbX", _usual("XbX", "X-Custom: a: b\r\n" + FILE + "\r\nX-Empty:", QUOTED)),
    "file name with a semicolon": _body(
        "XbX",
        _usual("XbX", 'Content-Disposition: form-data; name="video"; filename="a; name=b; c.mp4"', QUOTED),
        filename="a; name=b; c.mp4",
    ),
    "file name with a line separator": _body(
        "XbX",
        _usual("XbX", 'Content-Disposition: form-data; name="video"; filename="a\u2028b\x85.mp4"', QUOTED),
        filename="a\u2028b\x85.mp4",
    ),
    "long file name": _body(
        "XbX",
        _usual("XbX", f'Content-Disposition: form-data; name="video"; filename="{"a" * 8000}"', QUOTED),
        filename="a" * 8000,
    ),
    "file without a name": _body(
        "XbX", _usual("XbX", 'Content-Disposition: form-data; name="video"', QUOTED), filename=None
    ),
    "file whose type says charset=binary (file --mime)": _body(
        "XbX", _usual("XbX", FILE + "\r\nContent-Type: video/mp4; charset=binary", QUOTED)
    ),
    "empty charset": _body("XbX", _usual("XbX", FILE, QUOTED + '\r\nContent-Type: text/plain; charset=""')),
    "extended file name twice": _body(
        "XbX", _usual("XbX", FILE + "; filename*=utf-8''a.mp4; filename*=utf-8''b.mp4", QUOTED), filename="a.mp4"
    ),
    "field in another charset": _body(
        "XbX",
        _form(
            "XbX",
            (QUOTED.format("top_k"), b"2"),
            (
                QUOTED.format("candidate_labels") + "\r\nContent-Type: text/plain; charset=ISO-8859-1",
                LABELS.encode("latin-1"),
            ),
            (FILE, VIDEO),
        ),
    ),
}
