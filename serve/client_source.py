"""Generate modules of `serve.client`: types from the OpenAPI document, the synchronous client from the asynchronous.

`python -m serve.client_source` writes the modules; `--check` writes nothing and exits with 1 if one is not up to date.
"""

import argparse
import json
import keyword
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.api.inference_errors import is_inference_path
from serve.app import create_app
from serve.settings import ServeSettings

CLIENT = Path(__file__).parent / "client"
FORM, JSON, QUERY = "multipart/form-data", "application/json", "query"
LINE_LENGTH = 120

SCHEMAS = "serve.client.schemas"
TYPES_HEAD = '''"""{title}

Generated from the OpenAPI document by `python -m serve.client_source`; do not edit.
"""
'''
PUBLIC = "types"  # module of `serve.client` that exports the types of all others
TITLES = {  # `PUBLIC`, and the modules of `SCHEMAS`
    PUBLIC: "Types of the documents that the server returns, and of the options that requests accept.",
    "common": "Types of documents of several resources.",
    "videos": "Types of documents of classifications, timelines, embeddings, stored videos and searches.",
    "jobs": "Types of documents of jobs.",
    "vocabularies": "Types of documents of vocabularies and feedback.",
    "server": "Types of documents of the server: models, limits and readiness.",
    "options": "Types of the options that requests accept.",
}
RESOURCES = {  # first segment of a path below /v1 -> module of the types that only its documents contain
    "classify": "videos", "timeline": "videos", "embeddings": "videos", "videos": "videos", "search": "videos",
    "jobs": "jobs", "vocabularies": "vocabularies", "feedback": "vocabularies",
}  # fmt: skip
REFERENCE = re.compile(r'"#/components/schemas/(\w+)"')
PRIMITIVES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


@dataclass(frozen=True, kw_only=True)
class OptionSet:
    """Where the OpenAPI document defines the options of a method, and which of them the method sets itself."""

    method: str
    path: str
    container: str  # FORM, JSON or QUERY
    omitted: tuple[str, ...] = ()


OPTION_SETS = {
    "ClassifyOptions": OptionSet(
        method="post", path="/v1/classify", container=FORM, omitted=("video", "options"),
    ),
    "TimelineOptions": OptionSet(
        method="post", path="/v1/timeline", container=FORM, omitted=("video", "options", "format"),
    ),
    "TextEmbeddingOptions": OptionSet(method="post", path="/v1/embeddings", container=JSON, omitted=("input",)),
    "VideoEmbeddingOptions": OptionSet(
        method="post", path="/v1/embeddings", container=FORM, omitted=("video", "options")
    ),
    "JobFilter": OptionSet(method="get", path="/v1/jobs", container=QUERY, omitted=("page_size", "page_token")),
    "StoredVideoFilter": OptionSet(
        method="get", path="/v1/videos", container=QUERY, omitted=("page_size", "page_token")
    ),
    "ScoreOptions": OptionSet(method="post", path="/v1/videos/{video_id}:classify", container=JSON),
    "SegmentOptions": OptionSet(
        method="post", path="/v1/videos/{video_id}:timeline", container=JSON, omitted=("format",)
    ),
    "ScorePageOptions": OptionSet(
        method="post", path="/v1/videos:classify", container=JSON, omitted=("page_size", "page_token")
    ),
    "SearchOptions": OptionSet(method="get", path="/v1/search", container=QUERY, omitted=("q",)),
    "VocabularyFields": OptionSet(
        method="put", path="/v1/vocabularies/{name}", container=JSON, omitted=("labels",)
    ),
    "VocabularyChanges": OptionSet(method="patch", path="/v1/vocabularies/{name}", container=JSON),
    "CalibrateOptions": OptionSet(
        method="post", path="/v1/vocabularies/{name}:calibrate", container=FORM, omitted=("clip", "options", "labels"),
    ),
    "FeedbackOptions": OptionSet(
        method="post", path="/v1/feedback", container=FORM, omitted=("video", "options", "label")
    ),
}  # fmt: skip

# The synchronous client is the asynchronous one after these replacements, in this order.
REPLACEMENTS = (
    (re.compile(r"\b(?:async|await) "), ""),
    (re.compile(r"\bAsync([A-Z]\w*)"), r"\1"),
    (re.compile(r"\bserve\.client\.asynchronous\b"), "serve.client.synchronous"),
    (re.compile(r"\b__a(enter|exit|iter|next)__"), r"__\1__"),
    (re.compile(r"\ba(close|read|iter_lines)\b"), r"\1"),
    (re.compile(r"\basynccontextmanager\b"), "contextmanager"),
    (re.compile(r"\bfrom asyncio import sleep\b"), "from time import sleep"),
    (re.compile(r"\basynchronous\b"), "synchronous"),
)
SYNCHRONOUS_HEAD = "# Generated from serve/client/asynchronous by `python -m serve.client_source`; do not edit.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m serve.client_source", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a module is not up to date")
    is_check = parser.parse_args(arguments).check
    modules = generate()
    outdated = [path for path, text in modules.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in outdated:
        print(f"{path.relative_to(CLIENT)}: {'not up to date' if is_check else 'written'}")
        if not is_check:
            path.write_text(modules[path], encoding="utf-8")
    return 1 if is_check and outdated else 0


def generate() -> dict[Path, str]:
    """Return the text of every generated module."""
    sources = sorted(path for path in (CLIENT / "asynchronous").glob("*.py") if path.name != "__init__.py")
    modules = {CLIENT / "synchronous" / path.name: to_synchronous(path.read_text(encoding="utf-8")) for path in sources}
    types = types_modules(create_app(ServeSettings()).openapi())
    modules |= {CLIENT / ("" if name == PUBLIC else "schemas") / f"{name}.py": text for name, text in types.items()}
    return {path: format_source(text) for path, text in modules.items()}


def format_source(text: str) -> str:
    """Arrange the imports of a module and format it with the settings of the project; needs ruff (extra `dev`)."""
    for arguments in (["check", "--select=I,F401,UP028", "--fix", "--unsafe-fixes", "--quiet"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, f"--stdin-filename={CLIENT / 'generated.py'}", "-"]
        text = subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=True).stdout
    return text


def to_synchronous(source: str) -> str:
    """Return the synchronous form of an asynchronous module."""
    for pattern, replacement in REPLACEMENTS:
        source = pattern.sub(replacement, source)
    return SYNCHRONOUS_HEAD + source


def types_modules(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the modules of types: a `TypedDict` for each schema of an OpenAPI document and each of `OPTION_SETS`.

    Schemas that only the Open Inference Protocol uses are left out: it has clients of its own.
    """
    types = _Types()
    schemas = document["components"]["schemas"]
    modules = _modules_of_schemas(document)
    for name, schema in schemas.items():
        if name in modules:
            types.add(name, schema, required=schema.get("required", ()))
    for name, option_set in OPTION_SETS.items():
        operation = document["paths"][option_set.path][option_set.method]
        types.add(name, _options_schema(operation, option_set), required=())
    module_of = {name: modules.get(name, "options") for name in types.texts}
    return {module: _types_module(module, types, module_of) for module in TITLES}


def _modules_of_schemas(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the module of each schema; one that several resources use is common, so modules import no other one."""
    found: dict[str, str] = {}
    for path, item in document["paths"].items():
        if is_inference_path(path):
            continue
        module = RESOURCES.get(path.removeprefix("/v1/").partition("/")[0].partition(":")[0], "server")
        for name in _schema_names(item, document["components"]["schemas"]):
            found[name] = module if found.get(name, module) == module else "common"
    return found


def _types_module(module: str, types: "_Types", module_of: Mapping[str, str]) -> str:
    """Return the text of a module."""
    is_public = module == PUBLIC
    own = [name for name in types.texts if module_of[name] == module]
    needed = types.texts.keys() if is_public else {name for each in own for name in types.references[each]}
    imported: dict[str, list[str]] = {}
    for name in sorted(needed):
        if module_of[name] != module:
            imported.setdefault(module_of[name], []).append(name)
    lines = [] if is_public else ["from typing import Any, Literal, NotRequired, TypedDict"]
    lines += [f"from {SCHEMAS}.{other} import {', '.join(names)}" for other, names in imported.items()]
    exported = f"\n__all__ = {sorted(needed)}\n" if is_public else ""
    head = TYPES_HEAD.format(title=TITLES[module]) + "\n" + "\n".join(lines) + "\n"
    return head + exported + "".join(f"\n\n{types.texts[name]}" for name in own)


def _schema_names(value: Any, schemas: Mapping[str, Any]) -> set[str]:
    """Return the names of the schemas that a part of the document refers to, directly or through other schemas."""
    names: set[str] = set()
    pending = [json.dumps(value)]
    while pending:
        for name in set(REFERENCE.findall(pending.pop())) - names:
            names.add(name)
            pending.append(json.dumps(schemas[name]))
    return names


def _options_schema(operation: Mapping[str, Any], option_set: OptionSet) -> dict[str, Any]:
    """Return an object schema with the options of an operation."""
    if option_set.container == QUERY:
        properties = {item["name"]: item["schema"] for item in operation["parameters"] if item["in"] == "query"}
    else:
        properties = operation["requestBody"]["content"][option_set.container]["schema"]["properties"]
    place = f"`{option_set.method.upper()} {option_set.path}`"
    return {
        "type": "object",
        "description": f"Options of {place}.",
        "properties": {name: schema for name, schema in properties.items() if name not in option_set.omitted},
    }


@dataclass
class _Types:
    """The text of each class, by its name."""

    texts: dict[str, str] = field(default_factory=dict)
    references: dict[str, set[str]] = field(default_factory=dict)  # the classes that its keys name

    def add(self, name: str, schema: Mapping[str, Any], *, required: Sequence[str]) -> None:
        self.texts.setdefault(name, "")  # a schema may refer to itself
        keys = {
            key: self.annotation(value) if key in required else f"NotRequired[{self.annotation(value)}]"
            for key, value in schema.get("properties", {}).items()
        }
        self.references[name] = {each for annotation in keys.values() for each in _class_names(annotation)}
        description = str(schema.get("description", "")) or f"{name}."
        has_plain_keys = all(key.isidentifier() and not keyword.iskeyword(key) for key in keys)
        text = _class_text if has_plain_keys else _call_text
        self.texts[name] = text(name, description, keys)

    def annotation(self, schema: Mapping[str, Any]) -> str:
        """Return the annotation of the values that a schema allows."""
        if "$ref" in schema:
            return str(schema["$ref"]).rpartition("/")[2]
        if "anyOf" in schema:
            return " | ".join(dict.fromkeys(self.annotation(item) for item in schema["anyOf"]))
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return f"Literal[{', '.join(map(_quote, values))}]"
        kind = schema.get("type")
        if kind == "array":
            return self._array_annotation(schema)
        if kind == "object":
            return self._object_annotation(schema)
        return PRIMITIVES.get(str(kind), "Any")

    def _array_annotation(self, schema: Mapping[str, Any]) -> str:
        if "prefixItems" in schema:
            return f"tuple[{', '.join(self.annotation(item) for item in schema['prefixItems'])}]"
        return f"list[{self.annotation(schema.get('items', {}))}]"

    def _object_annotation(self, schema: Mapping[str, Any]) -> str:
        if "properties" not in schema:
            values = schema.get("additionalProperties")
            return f"dict[str, {self.annotation(values) if isinstance(values, dict) else 'Any'}]"
        name = str(schema["title"])  # an inlined schema keeps the name of its model
        if name not in self.texts:
            self.add(name, schema, required=schema.get("required", ()))
        return name


def _class_text(name: str, description: str, keys: Mapping[str, str]) -> str:
    lines = [f"class {name}(TypedDict):", *_docstring(description)]
    if keys:
        lines += ["", *(f"    {key}: {_quoted(annotation)}" for key, annotation in keys.items())]
    return "\n".join(lines) + "\n"


def _call_text(name: str, description: str, keys: Mapping[str, str]) -> str:
    """Return the definition of a type with keys that cannot be attributes of a class."""
    items = [f'    "{key}": {_quoted(annotation)},' for key, annotation in keys.items()]
    head = [f"# {line}" for line in textwrap.wrap(description, LINE_LENGTH - 2)]
    return (
        "\n".join(
            [*head, f"{name} = TypedDict(", f'    "{name}",', "    {", *(f"    {i}" for i in items), "    },", ")"]
        )
        + "\n"
    )


def _docstring(description: str) -> list[str]:
    first, _, rest = description.strip().partition("\n")
    lines = textwrap.wrap(f'"""{first}', LINE_LENGTH - 4) + (
        ["", *rest.strip("\n").splitlines()] if rest.strip() else []
    )
    if len(lines) == 1:
        return [f'    {lines[0]}"""']
    return [f"    {line}" if line else "" for line in lines] + ['    """']


def _quoted(annotation: str) -> str:
    """Quote an annotation that names a class, which may be defined later in the module."""
    if annotation.startswith("NotRequired["):
        return f"NotRequired[{_quoted(annotation.removeprefix('NotRequired[').removesuffix(']'))}]"
    if not _class_names(annotation):
        return annotation
    return "'" + annotation + "'" if '"' in annotation else f'"{annotation}"'


def _class_names(annotation: str) -> set[str]:
    names = set(re.findall(r"(?<!\")\b[A-Z]\w+", re.sub(r'"[^"]*"', "", annotation)))
    return names - {"Any", "Literal", "None", "NotRequired"}


def _quote(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    sys.exit(main())
