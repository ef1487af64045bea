"""The texts of the page: the languages have the same keys and parameters, and each key is used."""

import re
from functools import cache

from tests.running_server import ROOT

WEB = ROOT / "serve" / "web"
ENTRY = re.compile(r'^ {2}"([^"]+)": (.*?),?\n(?= {2}"|\}|\n)', re.MULTILINE | re.DOTALL)
STATIC_KEY = re.compile(r'\bt\(\s*"([^"]+)"|data-t(?:-[a-z-]+)?="([^"]+)"')
QUOTED = re.compile(r'"([a-z][a-z0-9_.-]*)"')
COMPUTED = re.compile(r"[`(]([a-z][a-z.-]*[.-])\$\{")  # t(`tab.${name}`)


@cache
def messages(language: str) -> dict[str, str]:
    return dict(ENTRY.findall((WEB / "messages" / f"{language}.js").read_text(encoding="utf-8")))


def parameters(language: str) -> dict[str, set[str]]:
    return {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in messages(language).items()}


def sources() -> str:
    files = [*WEB.glob("*.js"), *WEB.glob("parts/*.js"), *WEB.glob("views/*.js"), WEB / "index.html"]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_languages_have_the_same_keys() -> None:
    assert list(messages("en")) and set(messages("en")) == set(messages("zh"))


def test_languages_have_the_same_parameters() -> None:
    assert parameters("en") == parameters("zh")


def test_every_key_in_use_exists() -> None:
    used = {one or other for one, other in STATIC_KEY.findall(sources())}
    assert used and used <= set(messages("en"))


def test_every_text_is_used() -> None:
    text = sources()
    named = set(QUOTED.findall(text)) | {one or other for one, other in STATIC_KEY.findall(text)}
    prefixes = tuple(set(COMPUTED.findall(text)))
    assert [key for key in messages("en") if key not in named and not key.startswith(prefixes)] == []
