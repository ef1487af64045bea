"""Every command of `actserve`, `python -m training` and `python -m export` given wrongly.

Whatever is wrong: one line on standard error that names it, no traceback, and the exit status of its kind: 2 where what
was given cannot be used, 1 where the work failed. Most cases are derived from the commands' own parameters, so that a
new command or option is covered without being listed.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
import typer

from export.__main__ import app as export_app
from export.__main__ import main as export_main
from serve.cli.main import app as actserve_app
from serve.cli.main import main as actserve_main
from tests.models import tiny_actionclip
from tests.running_server import ROOT
from training.__main__ import app as training_app
from training.__main__ import main as training_main
from training.checkpoints.native_format import save_checkpoint

Main = Callable[[list[str]], None]
PROGRAMS: dict[str, tuple[typer.Typer, Main]] = {
    "actserve": (actserve_app, actserve_main),
    "training": (training_app, training_main),
    "export": (export_app, export_main),
}
NOWHERE = "http://127.0.0.1:9"
UNREADABLE = Path("/proc/self/mem")  # a file whose reading fails for every user


def commands(program: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of a program: its words and its parameters."""

    def walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield words, command
        for name, each in (inner or {}).items():
            yield from walk((*words, name), each)

    yield from walk((program,), typer.main.get_command(PROGRAMS[program][0]))


COMMANDS = dict(found for program in PROGRAMS for found in commands(program))


def wrong_values(parameter: Any) -> Iterator[str]:
    """Values that the type of a parameter refuses."""
    described = parameter.type_descriptor
    kind, limits = described.annotation, described.parameter_info
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    if limits.parser is not None or get_origin(kind) is Literal:
        yield "nonsense"
    elif kind in (int, float):
        yield "many"
        yield ""
        if limits.min is not None:
            yield str(limits.min - 1)
        if limits.max is not None:
            yield str(limits.max + 1)
    elif kind is Path:
        if limits.exists:
            yield "absent.file"
        if not limits.dir_okay:
            yield str(ROOT / "docs")
        if not limits.file_okay:
            yield str(ROOT / "README.md")


FORWARDED = {("actserve", "train"), ("actserve", "export")}  # to the programs of the same commands


def derived() -> Iterator[tuple[str, ...]]:
    """Wrong words for every command."""
    for words, command in COMMANDS.items():
        if words not in FORWARDED:
            yield (*words, "--no-such-option")
        if any(parameter.required for parameter in command.params):
            yield words
        for parameter in command.params:
            for value in wrong_values(parameter):
                is_option = parameter.opts[0].startswith("-")
                yield (*words, f"{parameter.opts[0]}={value}") if is_option else (*words, "--", value)
    for program in PROGRAMS:
        yield (program, "no-such-command")


def run(words: tuple[str, ...] | list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """(exit status, its line) of a command that ends badly."""
    program, *rest = words
    with pytest.raises(SystemExit) as stop:
        PROGRAMS[program][1](list(rest))
    *notes, line = capsys.readouterr().err.splitlines()  # readers of lists note how they understood one
    assert not any("error" in note or "Traceback" in note for note in notes)
    assert line.startswith("actserve: " if program == "actserve" else "error: ")
    assert "Traceback" not in line and len(line) < 2000
    assert isinstance(stop.value.code, int)
    return stop.value.code, line


def test_every_command_is_walked() -> None:
    assert len(COMMANDS) >= 37
    known = {words[:2] for words in COMMANDS if words not in FORWARDED}
    assert {words[:2] for words in derived() if len(words) > 1} >= known


@pytest.mark.parametrize("words", list(derived()), ids=" ".join)
def test_words_that_no_command_takes(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    status, line = run(words, capsys)
    assert status == 2
    assert "--help`" in line, "says where to look"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the right and of the wrong kind."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "empty").mkdir()
    for name, content in {
        "text.txt": b"no such thing\n",
        "nothing": b"",
        "latin.csv": "id,name\n0,caf\xe9\n".encode("latin-1"),
        "classes.csv": b"id,name\n0,walking\n1,waving\n",
        "list.txt": b"absent.mp4 0\nabsent.mp4 1\n",
        "index.csv": b"file,label\nabsent.mp4,walking\nabsent.mp4,waving\n",
        "clips.csv": b"file,label\ntext.txt,walking\nnothing,waving\n",
        "bad.yaml": b"run: {steps: 3\nx: [",
        "deep.yaml": b"[" * 5000,
        "list.yaml": b"- 1\n- 2\n",
        "none.yaml": b"",
        "latin.yaml": "run: caf\xe9\n".encode("latin-1"),
        "key.yaml": b"run: {steps: 3}\nmodell: {}\n",
        "type.yaml": b"run: {steps: many}\n",
        "value.yaml": b"run: {steps: 3, device: tpu}\n",
        "negative.yaml": b"run: {steps: -3}\n",
        "family.yaml": b"run: {steps: 3}\nmodel: {family: nonsense}\n",
        "base.yaml": b"base: absent.yaml\nrun: {steps: 3}\n",
        "data.yaml": b"run: {steps: 3}\ndata: {source: frames, train: absent.txt, val: absent.txt}\n",
        "source.yaml": b"run: {steps: 3}\ndata: {source: nonsense}\n",
        "result.json": b"{}",
        "templates.txt": b"no braces\n",
        "tokenizer.json": b"{}",
        "bad.parquet": b"no table",
    }.items():
        (folder / name).write_bytes(content)
    save_checkpoint(folder / "checkpoint.pt", tiny_actionclip("meanP"))
    torch.save({"weight": torch.zeros(2)}, folder / "other.pt")
    whole = (folder / "checkpoint.pt").read_bytes()
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 2])
    return folder


# words, exit status, what the line says; {m} is the folder of materials, {t} an empty one
CONTENT: list[tuple[str, int, str]] = [
    *(("training train --set run.out={t}/run {m}/" + name, 2, said) for name, said in (
        ("bad.yaml", "bad.yaml is not valid YAML"), ("deep.yaml", "deep.yaml is not valid YAML"),
        ("list.yaml", "must contain a mapping"),
        ("none.yaml", "run.steps and run.epochs"), ("latin.yaml", "latin.yaml is not valid"),
        ("key.yaml", "modell"),
        ("type.yaml", "run.steps"), ("value.yaml", "cuda"), ("negative.yaml", "run.steps"), ("family.yaml", "nonsense"),
        ("base.yaml", "absent.yaml"), ("data.yaml", "absent.txt"), ("source.yaml", "nonsense"),
        ("nothing", "run.steps"),
    )),
    *((f"training train {{r}}/training/configs/demo.yaml --set {key}=nonsense --set run.out={{t}}/run", 2, "nonsense")
      for key in ("data.system", "optim.schedule", "loss.kind")),
    ("training train {u}", 2, "mem cannot be read"),
    ("training train {r}/training/configs/demo.yaml --set run.steps", 2, "a.b=value"),
    ("training train {r}/training/configs/demo.yaml --set run.steps=[", 2, "not valid YAML"),
    ("training train {r}/training/configs/demo.yaml --set run.steps.more=1", 2, "run.steps is a value"),
    ("training train {r}/training/configs/demo.yaml --set model.start=absent.pt", 2, "absent.pt"),
    ("training train {r}/training/configs/demo.yaml --set model.start={m}/text.txt", 2, "text.txt"),
    ("training train {r}/training/configs/demo.yaml --set run.out={m}/text.txt/run", 2, "text.txt"),
    ("training prepare {m}/empty {t}/out", 2, "empty"),
    ("training prepare {m}/text.txt {t}/out", 2, "text.txt"),
    ("training prepare {m}/nothing {t}/out", 2, "nothing"),
    ("training prepare {m}/classes.csv {t}/out", 2, "classes.csv"),
    ("training prepare {u} {t}/out", 2, "mem"),
    ("training prepare {m}/index.csv {m}/text.txt/out", 2, "text.txt"),
    ("training prepare {m}/empty {t}/out --val 0.6 --test 0.6", 2, "--val and --test"),
    ("training shard {m}/text.txt {t}/out", 2, "text.txt"),
    ("training shard {m}/nothing {t}/out", 2, "nothing"),
    ("training shard {m}/empty {t}/out", 2, "empty"),
    ("training shard {u} {t}/out", 2, "mem"),
    ("training shard {m}/list.txt {t}/out --source nonsense", 2, "nonsense"),
    ("training shard {m}/list.txt {t}/out --classes {m}/text.txt", 2, "not in the class list"),
    ("training shard {m}/list.txt {t}/out --classes {m}/latin.csv", 2, "latin.csv"),
    ("training shard {m}/list.txt {t}/out --classes {u}", 2, "mem"),
    ("training shard {m}/list.txt {m} --classes {m}/classes.csv", 2, "material"),
    ("training shard {m}/list.txt {t}/out --classes {m}/classes.csv --split nonsense", 2, "nonsense"),
    ("training check absent.txt", 2, "absent.txt"),
    ("training check {m}/list.txt --source nonsense", 2, "nonsense"),
    ("training check {m}/list.txt --system nonsense", 2, "nonsense"),
    ("training check {m}/list.txt --config {m}/bad.yaml", 2, "bad.yaml is not valid YAML"),
    ("training few-shot absent.pt {m}/index.csv", 2, "absent.pt"),
    ("training few-shot {m}/empty {m}/index.csv", 2, "empty"),
    ("training few-shot {m}/text.txt {m}/index.csv", 2, "text.txt"),
    ("training few-shot {m}/cut.pt {m}/index.csv", 2, "cut.pt"),
    ("training few-shot {u} {m}/index.csv", 2, "mem"),
    ("training few-shot {m}/checkpoint.pt {m}/text.txt", 2, "text.txt"),
    ("training few-shot {m}/checkpoint.pt {m}/index.csv --shots 2,x", 2, "--shots"),
    ("training few-shot {m}/checkpoint.pt {m}/index.csv --shots=-2", 2, "--shots"),
    ("training few-shot {m}/checkpoint.pt {m}/index.csv --source nonsense", 2, "nonsense"),
    ("training few-shot {m}/checkpoint.pt {m}/index.csv --device nonsense", 2, "nonsense"),
    ("training few-shot {m}/checkpoint.pt {m}/index.csv --tokenizer {m}/tokenizer.json", 2, "tokenizer"),
    ("training few-shot demo {m}/index.csv --repository {m}/empty", 2, "demo"),
    ("training few-shot nothing {m}/index.csv --repository {r}/model_repository", 2, "no model 'nothing'"),
    ("training few-shot demo@x {m}/index.csv --repository {r}/model_repository", 2, "demo@x"),
    ("training demo-data {t}/out --split nonsense", 2, "nonsense"),
    ("training demo-data {t}/out --words nonsense", 2, "nonsense"),
    ("training demo-data {m}/text.txt", 2, "text.txt"),
    ("training evaluate absent.pt {m}/index.csv", 2, "absent.pt"),
    ("training evaluate {m}/text.txt {m}/index.csv", 2, "text.txt"),
    ("training evaluate {m}/cut.pt {m}/index.csv", 2, "cut.pt"),
    ("training evaluate {u} {m}/index.csv", 2, "mem"),
    ("training evaluate {m}/checkpoint.pt", 2, "at least one list"),
    ("training evaluate {m}/checkpoint.pt absent.csv", 2, "absent.csv"),
    ("training evaluate {m}/checkpoint.pt {m}/text.txt", 2, "text.txt"),
    ("training evaluate {m}/checkpoint.pt {m}/empty", 2, "empty"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --view-rule nonsense", 2, "nonsense"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --system nonsense", 2, "nonsense"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --precision nonsense", 2, "nonsense"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --device nonsense", 2, "nonsense"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --crops 2", 2, "crops"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --clips=-1", 2, "clips"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --templates {m}/templates.txt", 2, "no braces"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --templates {m}/nothing", 2, "nothing"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --templates {m}/empty", 2, "empty"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --classes {m}/text.txt", 2, "not in the class list"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --own-classes", 2, "contains no class names"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --class-draws 2", 2, "must be given together"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --tokenizer {m}/tokenizer.json", 2, "tokenizer"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --tokenizer absent.json", 2, "absent.json"),
    ("training evaluate {m}/checkpoint.pt {m}/index.csv --out {m}/text.txt/result.json", 2, "text.txt"),
    ("training evaluate --compare {m}/result.json", 2, "two result files"),
    ("training evaluate --compare {m}/result.json {m}/result.json", 2, "result.json"),
    ("training evaluate --compare {m}/text.txt {m}/result.json", 2, "text.txt"),
    ("training evaluate --compare absent.json {m}/result.json", 2, "absent.json"),
    ("training evaluate --compare {u} {m}/result.json", 2, "mem"),
    ("training evaluate --compare {m}/empty {m}/result.json", 2, "empty"),
    ("training demo-proof --per-group 1 --server {n}", 1, "{n}"),
    ("training demo-proof --server nonsense", 2, "nonsense"),
    ("training starter-model absent {t}/out", 2, "absent"),
    ("training starter-model {m}/text.txt {t}/out", 2, "text.txt"),
    ("training starter-model {m}/empty {t}/out", 2, "empty"),
    ("training starter-proof absent", 2, "absent"),
    ("training starter-proof {m}/text.txt", 2, "text.txt"),
    ("training starter-proof {m}/empty", 2, "index.csv"),
    ("export model", 2, "--arch"),
    ("export model --arch ViT-B-32 --checkpoint {m}/checkpoint.pt", 2, "either"),
    ("export model --arch nonsense", 2, "nonsense"),
    ("export model --arch ViT-B-32 --pretrained absent.pt --repository {t}", 2, "absent.pt"),
    ("export model --arch ViT-B-32 --pretrained {m}/empty --repository {t}", 2, "empty"),
    ("export model --arch ViT-B-32 --pretrained {m}/text.txt --repository {t}", 2, "text.txt"),
    ("export model --checkpoint {m}/checkpoint.pt --repository {t}", 2, "--name"),
    ("export model --checkpoint {m}/checkpoint.pt --name a/b --repository {t}", 2, "a/b"),
    ("export model --checkpoint {m}/checkpoint.pt --name a --repository {m}/text.txt", 2, "text.txt"),
    ("export model --checkpoint {m}/checkpoint.pt --name a --repository {t} --activation gelu", 2, "--activation"),
    ("export model --checkpoint {m}/checkpoint.pt --name a --repository {t} --templates none", 2, "none"),
    ("export model --checkpoint {m}/checkpoint.pt --name a --repository {t} --tokenizer absent.json", 2, "absent.json"),
    ("export model --checkpoint {m}/checkpoint.pt --name a --repository {t} --tokenizer {m}/text.txt", 2, "text.txt"),
    *(("export model --name a --repository {t} --checkpoint " + path, 2, said) for path, said in (
        ("absent.pt", "absent.pt"), ("{m}/empty", "empty"), ("{m}/text.txt", "text.txt"), ("{m}/nothing", "nothing"),
        ("{m}/cut.pt", "cut.pt"), ("{m}/other.pt", "other.pt"), ("{u}", "mem"), ("{m}/text.txt/x", "text.txt/x"),
    )),
    *(("export import-checkpoint --name a --repository {t} " + path, 2, said) for path, said in (
        ("absent.pt", "absent.pt"), ("{m}/empty", "empty"), ("{m}/text.txt", "text.txt"), ("{m}/nothing", "nothing"),
        ("{m}/cut.pt", "cut.pt"), ("{m}/other.pt", "other.pt"), ("{u}", "mem"), ("{m}/result.json", "result.json"),
        ("{m}/checkpoint.pt --num-frames 3", "num_frames"), ("{m}/checkpoint.pt --arch nonsense", "arch"),
        ("{m}/checkpoint.pt --tokenizer {m}/empty", "empty"), ("ftp://example.com/x.pt", "ftp:"),
    )),
    ("export import-checkpoint --name a --repository {t} {n}/x.pt", 1, "{n}/x.pt cannot be downloaded"),
    ("export import-checkpoint --name a --repository {t} http://[broken/x.pt", 2, "[broken"),
    ("export verify nothing --repository {r}/model_repository", 2, "no model 'nothing'"),
    ("export verify demo --version 99 --repository {r}/model_repository", 2, "99"),
    ("export verify demo --repository absent", 2, "absent"),
    ("export verify demo --repository {m}/text.txt", 2, "text.txt"),
    ("export verify demo --repository {m}/empty", 2, "empty"),
    ("export tensorrt nothing --repository {r}/model_repository", 2, "no model 'nothing'"),
    ("export tensorrt demo --repository absent", 2, "absent"),
    ("export promote nothing --clips {m}/index.csv --repository {r}/model_repository", 2, "no model 'nothing'"),
    ("export promote demo@x --clips {m}/index.csv --repository {r}/model_repository", 2, "demo@x"),
    ("export promote demo --clips {m}/clips.csv --server {n} --repository {r}/model_repository", 1, "{n}"),
    ("export promote demo --clips {m}/index.csv --server nonsense --repository {r}/model_repository", 2, "nonsense"),
    ("export promote demo --clips {m}/clips.csv --against demo@9 --repository {r}/model_repository", 2, "9"),
    ("export promote demo --clips {m}/text.txt --against demo --repository {r}/model_repository", 2, "text.txt"),
    ("export promote demo --clips {m}/latin.csv --against demo --repository {r}/model_repository", 2, "latin.csv"),
    ("export promote demo --clips {u} --against demo --repository {r}/model_repository", 2, "mem"),
    ("export promote demo --clips {m}/index.csv --against demo --repository {r}/model_repository", 2, "absent.mp4"),
    ("actserve models list --server {n}", 1, "{n}"),
    ("actserve models activate demo@x --server {n}", 2, "demo@x"),
    ("actserve vocab show demo --server {n}", 1, "{n}"),
    ("actserve jobs list --server {n}", 1, "{n}"),
    ("actserve jobs watch x --server {n}", 1, "{n}"),
    ("actserve jobs results x --server {n}", 1, "{n}"),
    ("actserve jobs cancel x --server {n}", 2, "--yes"),
    ("actserve jobs create --server {n}", 2, "--folder and --url"),
    ("actserve jobs create {m}/text.txt --folder x", 2, "VIDEO, --folder"),
    ("actserve jobs create {m}/empty --server {n}", 2, "empty"),
    ("actserve jobs create {u} --server {n}", 2, "mem"),
    ("actserve jobs create --url http://x/ --pattern *.mp4", 2, "--pattern"),
    ("actserve jobs create --url http://x/ --options [1]", 2, "JSON object"),
    *(("actserve restore " + path, 2, said) for path, said in (
        ("{m}/text.txt", "text.txt"), ("{m}/nothing", "nothing"), ("{u}", "mem"),
    )),
    ("actserve backup {m}/text.txt", 2, "text.txt exists"),
    *((f"actserve batch {words} --out {{t}}/out", 2, said) for words, said in (
        ("{m}/empty", "empty"), ("absent.mp4", "absent.mp4"), ("{m}/nothing/x", "nothing/x"),
        ("{m}/bad.parquet", "bad.parquet"), ("{m}/clips.csv --column path", "--column"),
        ("{m}/clips.csv --options [1]", "JSON object"), ("{m}/clips.csv --kind embed --labels a", "candidate_labels"),
        ("{m}/clips.csv --repository {m}/empty", "no model"), ("nosuch://a/b.mp4", "nosuch"),
    )),
    ("actserve batch {m}/clips.csv --out {m}", 2, "not empty"),
    ("actserve batch {m}/clips.csv --out {m}/text.txt", 2, "text.txt"),
    *(("actserve videos import " + words, 2, said) for words, said in (
        ("absent", "absent has no manifest.json"), ("{m}/text.txt", "text.txt has no manifest.json"),
        ("{m}/empty", "empty has no manifest.json"), ("{m}/empty --tag=", "tags"),
    )),
    ("actserve vocab put demo {m}/nothing --server {n}", 2, "nothing"),
    ("actserve feedback send {u} walking --server {n}", 2, "mem"),
    ("actserve feedback send {m}/text.txt walking --server nonsense", 2, "nonsense"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "expected", "said"), CONTENT, ids=[words for words, *_ in CONTENT])
def test_input_that_cannot_be_used(
    words: str,
    expected: int,
    said: str,
    material: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "{u}" in words and not UNREADABLE.exists():
        pytest.skip("this system has no file that every user fails to read")
    monkeypatch.chdir(tmp_path)
    known = {"{m}": str(material), "{t}": str(tmp_path), "{u}": str(UNREADABLE), "{n}": NOWHERE, "{r}": str(ROOT)}

    def filled(text: str) -> str:
        for mark, value in known.items():
            text = text.replace(mark, value)
        return text

    status, line = run(filled(words).split(" "), capsys)
    assert filled(said) in line.replace(str(material), "material") or filled(said) in line
    assert status == expected, line
    with suppress(FileNotFoundError):
        assert not list(tmp_path.rglob("*contract.json"))
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
