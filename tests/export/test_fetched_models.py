"""From a hub to a served model in one command: small architectures in the layout of the real repositories."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from huggingface_hub import constants
from open_clip import factory, pretrained
from safetensors.torch import save_file

from export.__main__ import main
from serve.contract import ModelContract, read_contract
from serve.repository import contract_path
from tests.hub_server import COMMIT, Hub, hub_server, sha256
from tests.models import SMALL_OPEN_CLIP_TEXT, SMALL_TOWER, tiny_checkpoint, write_tokenizer
from tests.models import TEXT as TEXT_TOWER
from tests.models import VISION as VISION_TOWER
from tests.running_server import ROOT
from training.checkpoints import open_clip_architectures
from training.checkpoints.actionclip_files import to_official_actionclip
from training.checkpoints.native_format import Checkpoint
from training.checkpoints.xclip_files import to_official_xclip
from training.models.open_clip_towers import architecture_config

SAFE, BIN = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
VISION = {"image_size": SMALL_TOWER["img_size"]}
PE = architecture_config(
    "PE-Core-T-16-384",
    {
        "embed_dim": 48,
        "vision_cfg": {"timm_model_name": "actserve_tiny_pe", **VISION},
        "text_cfg": SMALL_OPEN_CLIP_TEXT,
    },
)
PLAIN = architecture_config(
    "ViT-B-32",
    {
        "embed_dim": 64,
        "vision_cfg": {**VISION, "layers": 2, "width": 128, "patch_size": 32},
        "text_cfg": SMALL_OPEN_CLIP_TEXT,
    },
)
SIGLIP = architecture_config(
    "ViT-B-16-SigLIP2",
    {
        "embed_dim": 64,
        "vision_cfg": {"timm_model_name": "actserve_tiny_siglip", **VISION},
        "text_cfg": {**SMALL_OPEN_CLIP_TEXT, "vocab_size": 400, "hf_tokenizer_name": "timm/ViT-T-16-SigLIP2"},
    },
)
MEAN, HALVES = [0.48145466, 0.4578275, 0.40821073], [0.5, 0.5, 0.5]
HALF = {"mean": HALVES, "std": HALVES, "resize_mode": "squash"}
CLIP = {
    "mean": MEAN,
    "std": [0.26862954, 0.26130258, 0.27577711],
    "resize_mode": "shortest",
    "interpolation": "bicubic",
}
# name -> configuration, tag -> entry of open_clip's table
MODELS: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "Tiny-PE": (PE, {"meta": {"hf_hub": "timm/Tiny-PE/", **HALF, "interpolation": "bilinear"}}),
    "Tiny-ViT": (
        PLAIN,
        {
            "openai": {"hf_hub": "timm/tiny_clip.openai/", "quick_gelu": True, **CLIP},
            "laion2b": {"hf_hub": "laion/CLIP-Tiny-laion2B/", **CLIP},
        },
    ),
    "Tiny-SigLIP2": (SIGLIP, {"webli": {"hf_hub": "timm/ViT-T-16-SigLIP2/", **HALF, "interpolation": "bicubic"}}),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with random weights of every small architecture, which open_clip and huggingface_hub take for theirs."""
    for name, (config, tags) in MODELS.items():
        monkeypatch.setitem(factory._MODEL_CONFIGS, name, config)
        monkeypatch.setitem(pretrained._PRETRAINED, name, tags)
    open_clip_architectures._plain_architectures.cache_clear()
    with hub_server() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
        for number, (name, tag, file) in enumerate(WEIGHTS):
            torch.manual_seed(number)
            path = tmp_path / "served" / tag / file
            path.parent.mkdir(parents=True)
            weights = open_clip.create_model(name, pretrained=None).state_dict()
            if file == SAFE:
                save_file({key: item.contiguous() for key, item in weights.items()}, path)
            else:
                torch.save(weights, path)
            running.add(f"{MODELS[name][1][tag]['hf_hub']}{file}", path)
        tokenizer = write_tokenizer(tmp_path / "served" / "tokenizer.json")
        (tmp_path / "served" / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<unk>"}))
        for file in (tokenizer, tokenizer.with_name("tokenizer_config.json")):
            running.add(f"timm/ViT-T-16-SigLIP2/{file.name}", file)
        yield running
    open_clip_architectures._plain_architectures.cache_clear()


WEIGHTS = [
    ("Tiny-PE", "meta", SAFE),
    ("Tiny-ViT", "openai", SAFE),
    ("Tiny-ViT", "laion2b", BIN),
    ("Tiny-SigLIP2", "webli", SAFE),
]


def run(tmp_path: Path, *words: str) -> None:
    main([*words, "--repository", str(tmp_path / "models"), "--cache", str(tmp_path / "cache")])


def failed(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """(exit status, what it says) of a command that fails; it leaves nothing in the folder of models."""
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, *words)
    (line,) = capsys.readouterr().err.splitlines()
    assert not list((tmp_path / "models").rglob("*"))
    assert isinstance(stop.value.code, int)
    return stop.value.code, line


def make_contract(tmp_path: Path, name: str) -> ModelContract:
    return read_contract(contract_path(tmp_path / "models", name, 1))


@pytest.mark.parametrize(("name", "tag", "file"), WEIGHTS, ids=[f"{name}-{tag}" for name, tag, _ in WEIGHTS])
def test_a_published_model_becomes_a_served_one(hub: Hub, tmp_path: Path, name: str, tag: str, file: str) -> None:
    given = ("--pretrained", tag) if name == "Tiny-ViT" else ()
    run(tmp_path, "model", "--arch", name, *given)
    contract = make_contract(tmp_path, name)
    repo = MODELS[name][1][tag]["hf_hub"]
    assert contract.provenance["source"] == f"{hub.endpoint}/{repo}{file}"
    assert contract.provenance["revision"] == COMMIT
    assert contract.provenance["sha256"] == sha256(hub.files[f"{repo}{file}"])
    assert list(contract.preprocess.mean) == MODELS[name][1][tag]["mean"]
    if name == "Tiny-ViT":
        assert contract.provenance["activation"]["value"] == ("quick_gelu" if tag == "openai" else "gelu")
    if name == "Tiny-SigLIP2":
        published = tmp_path / "models" / contract.tokenizer_file.file
        assert published.read_bytes() == hub.files["timm/ViT-T-16-SigLIP2/tokenizer.json"].read_bytes()
    hub.requests.clear()
    run(tmp_path, "model", "--arch", name, *given, "--name", "again")
    assert hub.ranges() == [], "the second time nothing is transferred"


def test_a_download_that_breaks_off_leaves_no_model_and_goes_on(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = hub.files[f"timm/Tiny-PE/{SAFE}"].stat().st_size
    hub.cut_after, hub.cuts, hub.status_after_cuts = size // 2, 1, 503
    status, line = failed(tmp_path, capsys, "model", "--arch", "Tiny-PE")
    assert status == 1 and "failed after" in line and "returned 503" in line
    hub.cut_after, hub.status_after_cuts, hub.requests[:] = None, 200, []
    run(tmp_path, "model", "--arch", "Tiny-PE")
    (given,) = hub.ranges()
    assert re.fullmatch(r"bytes=\d{6,}-", given)
    assert make_contract(tmp_path, "Tiny-PE").name == "Tiny-PE"


def test_other_failures_leave_no_model(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.announced[f"timm/Tiny-PE/{SAFE}"] = "0" * 64
    status, line = failed(tmp_path, capsys, "model", "--arch", "Tiny-PE")
    assert status == 1 and "the hash must be" in line
    hub.announced.clear()
    hub.status = 503
    status, line = failed(tmp_path, capsys, "model", "--arch", "Tiny-PE")
    assert status == 1 and "cannot be downloaded: the server returned 503" in line
    hub.status = 200
    for file in ("tokenizer.json", "tokenizer_config.json"):
        del hub.files[f"timm/ViT-T-16-SigLIP2/{file}"]
    hub.requests.clear()
    status, line = failed(tmp_path, capsys, "model", "--arch", "Tiny-SigLIP2")
    assert status == 1 and "tokenizer" in line
    assert hub.ranges() == [], "the weights are not fetched before their tokenizer is there"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--arch", "roberta-ViT-B-32"], "the text tower of roberta-ViT-B-32 is not supported"),
        (
            ["--arch", "coca_ViT-B-32", "--pretrained", "laion2b_s13b_b90k"],
            "the text tower of coca_ViT-B-32 is not supported",
        ),
        (["--arch", "Tiny-ViT"], "2 pretrained tags; select one with --pretrained: openai, laion2b"),
        (["--arch", "Tiny-PE", "--pretrained", "openai"], "neither a file nor a pretrained tag"),
        (["--arch", "Tiny-PE", "--activation", "gelu"], "--activation: only for weight files"),
        (["--arch", "ViT-Nowhere"], "has no architecture"),
        (["--arch", "Tiny-PE", "--name", "a/b"], "got 'a/b'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_served_is_refused_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    status, line = failed(tmp_path, capsys, "model", *words)
    assert (status, hub.ranges()) == (2, [])
    assert expected in line


def xclip_of_whole_heads() -> Checkpoint:
    """X-CLIP whose heads are 64 wide, as those of the published files."""
    return tiny_checkpoint(
        "xclip",
        vision={**VISION_TOWER, "width": 128, "heads": 2, "embed_dim": 64},
        text={**TEXT_TOWER, "width": 64, "heads": 1, "embed_dim": 64},
        mit={"layers": 1, "heads": 1},
        prompts={"layers": 2, "heads": 1},
    )


def actionclip_of_whole_heads() -> Checkpoint:
    """ActionCLIP whose heads are 64 wide, as those of the published files."""
    return tiny_checkpoint(
        "actionclip",
        vision={**VISION_TOWER, "width": 128, "heads": 2, "embed_dim": 64},
        text={**TEXT_TOWER, "width": 64, "heads": 1, "embed_dim": 64},
        fusion={"kind": "Transf", "layers": 2, "heads": 1},
    )


@pytest.fixture
def checkpoints(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """Addresses of checkpoints in the layouts of X-CLIP and ActionCLIP, and of a page of an error."""
    made = {
        "xclip": ("k400_32_8.pth", to_official_xclip(xclip_of_whole_heads())),
        "actionclip": ("vit-b-16-8f.pt", to_official_actionclip(actionclip_of_whole_heads())),
    }
    addresses = {}
    for family, (name, document) in made.items():
        path = tmp_path / "served" / name
        torch.save(document, path)
        hub.add(f"releases/{name}", path)
        addresses[family] = f"{hub.endpoint}/plain/releases/{name}?signature=secret"
    page = tmp_path / "served" / "page.html"
    page.write_text("<!doctype html><title>Sign in</title>")
    hub.add("releases/page", page)
    return {**addresses, "page": f"{hub.endpoint}/plain/releases/page"}


@pytest.mark.parametrize("family", ["xclip", "actionclip"])
def test_a_checkpoint_is_imported_from_its_address(
    checkpoints: dict[str, str], hub: Hub, tmp_path: Path, family: str
) -> None:
    run(tmp_path, "import-checkpoint", checkpoints[family], "--name", "imported")
    contract = make_contract(tmp_path, "imported")
    assert contract.family == family
    assert contract.provenance["source"] == checkpoints[family].partition("?")[0]


def test_addresses_that_hold_no_checkpoint(
    checkpoints: dict[str, str], hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, line = failed(tmp_path, capsys, "import-checkpoint", checkpoints["page"], "--name", "page")
    assert status == 2 and "is a web page ('Sign in'), not weights" in line
    absent = f"{hub.endpoint}/plain/absent.pth"
    status, line = failed(tmp_path, capsys, "import-checkpoint", absent, "--name", "absent")
    assert status == 1 and "returned 404 Not Found" in line
    status, line = failed(tmp_path, capsys, "import-checkpoint", "http://127.0.0.1:9/x.pth", "--name", "absent")
    assert status == 1 and "cannot be downloaded" in line


def actserve(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`actserve models ...` in a process of its own, without a hub; models go to `tmp_path / "models"`."""
    environment = {
        **os.environ,
        "HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "SERVE_REPOSITORY": str(tmp_path / "models"),
        "PYTHONPATH": str(ROOT),
    }
    command = [str(Path(sys.executable).with_name("actserve")), "models", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)


def test_without_a_network_the_command_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    left = actserve(tmp_path, "fetch", "PE-Core-B-16")
    assert len(left.stderr.splitlines()) == 1, left.stderr
    assert left.returncode == 1
    assert "PE-Core-B-16/open_clip_model.safetensors cannot be downloaded" in left.stderr
    assert not (tmp_path / "models").exists() and not list((tmp_path / "home").rglob("*.partial"))


@pytest.mark.parametrize("family", ["xclip", "actionclip"])
@pytest.mark.parametrize("given", ["address", "path"])
def test_an_official_file_is_served_after_one_command(
    checkpoints: dict[str, str], tmp_path: Path, family: str, given: str
) -> None:
    address = checkpoints[family].partition("?")[0]
    source = address if given == "address" else str(tmp_path / "served" / Path(address).name)
    left = actserve(tmp_path, "fetch", source)
    assert left.returncode == 0, left.stderr
    name = Path(address).stem
    assert f"actserve serve --model {name} " in left.stdout
    contract = make_contract(tmp_path, name)
    assert contract.family == family
    if given == "address":
        assert contract.provenance["source"] == source
    else:
        left = actserve(tmp_path, "import", source, "--name", "mine")
        assert left.returncode == 0, left.stderr
        assert make_contract(tmp_path, "mine").family == family


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{path}", "--pretrained", "openai"], "--pretrained: it is for architectures, not for a file"),
        (["http://127.0.0.1:9/files/_8.pth"], "--name: '_8' cannot be the name of a model"),
        (["./absent.pth"], "absent.pth"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_source_is_one_line(
    checkpoints: dict[str, str], tmp_path: Path, words: list[str], expected: str
) -> None:
    left = actserve(tmp_path, "fetch", *(word.format(path=tmp_path / "served" / "k400_32_8.pth") for word in words))
    assert left.returncode == 2 and left.stdout == ""
    (line,) = left.stderr.splitlines()
    assert expected in line
    assert not (tmp_path / "models").exists()


FULL_SIZE = [
    ("PE-Core-B-16", "meta", "timm/PE-Core-B-16", SAFE),
    ("ViT-B-32", "openai", "timm/vit_base_patch32_clip_224.openai", SAFE),
    ("ViT-B-32", "laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", BIN),
    ("ViT-B-16-SigLIP2", "webli", "timm/ViT-B-16-SigLIP2", SAFE),
]


def run_group(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; a test that ends before it ends its children too."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )
    try:
        output, errors = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # five transfers of up to 1.8 GB and an export, on any machine
@pytest.mark.parametrize(("arch", "tag", "repo", "file"), FULL_SIZE, ids=[f"{a}-{t}" for a, t, *_ in FULL_SIZE])
def test_full_size_by_the_command_of_the_readme(tmp_path: Path, arch: str, tag: str, repo: str, file: str) -> None:
    """`make model` is what `make run` does before it starts the server."""
    if not (ROOT / ".venv" / "everything").exists():
        pytest.skip("make would install the dependencies: there is no .venv made by it here")
    served, models = tmp_path / file, tmp_path / "models"
    weights = open_clip.create_model(arch, pretrained=None).state_dict()
    if file == SAFE:
        save_file({key: item.contiguous() for key, item in weights.items()}, served)
    else:
        torch.save(weights, served)
    del weights
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "MODEL": arch, "REPOSITORY": str(models)}
    with hub_server() as hub:
        hub.add(f"{repo}/{file}", served)
        if "SigLIP" in arch:
            tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
            (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<unk>"}))
            for path in (tokenizer, tokenizer.with_name("tokenizer_config.json")):
                hub.add(f"{repo}/{path.name}", path)
        command = ["make", "model", f"PRETRAINED={tag}" if arch == "ViT-B-32" else "PRETRAINED="]
        environment["HF_ENDPOINT"] = hub.endpoint

        def make() -> subprocess.CompletedProcess[str]:
            return run_group(command, cwd=ROOT, env=environment)

        hub.cut_after, hub.cuts, hub.status_after_cuts = served.stat().st_size // 2, 1, 503
        broken = make()
        assert broken.returncode != 0 and "failed after" in broken.stderr
        assert not list(models.rglob("*")), "nothing is half written"
        hub.cut_after, hub.status_after_cuts, hub.requests[:] = None, 200, []
        hub.announced[f"{repo}/{file}"] = "0" * 64
        other = make()
        assert other.returncode != 0 and "was announced" in other.stderr
        assert not list(models.rglob("*")) and not list((tmp_path / "home").rglob("*.partial"))
        hub.announced.clear()
        hub.cut_after, hub.cuts, hub.status_after_cuts = served.stat().st_size // 2, 1, 503
        assert make().returncode != 0
        hub.cut_after, hub.status_after_cuts, hub.requests[:] = None, 200, []
        done = make()
        assert done.returncode == 0, done.stderr
        assert len(hub.ranges()) == 1 and hub.ranges()[0].startswith("bytes="), "the second run resumed"
    shutil.rmtree(tmp_path / "home")
    alone = {**environment, "HF_ENDPOINT": "http://127.0.0.1:9", "REPOSITORY": str(tmp_path / "none")}
    without = run_group(command, cwd=ROOT, env=alone)
    assert without.returncode != 0 and "cannot be downloaded" in without.stderr
    assert not (tmp_path / "none").exists()
    contract = read_contract(contract_path(models, arch, 1))
    assert contract.provenance["sha256"] == sha256(served)
    shutil.rmtree(models)  # gigabytes, which pytest would keep
    served.unlink()
