"""Token rows of every open_clip architecture equal those of open_clip's own tokenizers.

Architectures with CLIP's tokenizer are compared as they are. Tokenizers of the hub cannot be had offline: for these a
small tokenizer with the same special tokens stands in, so their options (cleaning, separator, padding, length) are
compared, not their vocabularies.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIPTextCfg
from open_clip.transformer import TextTransformer
from tokenizers import Tokenizer as TokenizerFile
from tokenizers import models, pre_tokenizers, processors, trainers

from serve.contract import TextContract
from serve.errors import InvalidVocabulary
from serve.text.tokenizer import Tokenizer, load_tokenizer, pad_tokens
from training.checkpoints.native_format import CheckpointError
from training.checkpoints.open_clip_architectures import has_clip_tokenizer
from training.checkpoints.open_clip_text import text_contract
from training.checkpoints.tokenizer_files import apply_tokenizer_file
from training.data.prompts import clip_tokenizer
from training.models.base import ModelConfigError, TextTower
from training.models.open_clip_towers import OpenClipText, build_open_clip_text

TEXTS = (
    "a video of riding a bike",
    "  Two   spaces,\ttabs and CAPITALS ",
    "don't we'll they're it's I'd",
    "under_score-dash!? (brackets) [SEP] 50% & more",
    "&amp;lt;tag&amp;gt; l'\u00e9t\u00e9 \u00e0 la plage",
    "\u8d70\u8def \u30b9\u30ad\u30fc \U0001f6b4 12345",
    "ﬁsh ＦＵＬＬ ｗｉｄｔｈ",
    "x",
)
CONFIGS: dict[str, dict[str, Any]] = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
OF_HUB = {name: config["text_cfg"] for name, config in CONFIGS.items() if config["text_cfg"].get("hf_tokenizer_name")}
OWN = [name for name in CONFIGS if name not in OF_HUB]
# text towers that are left out, with a message: CoCa's class token needs full rows, the others are of transformers
NOT_TAKEN = [
    name
    for name, config in CONFIGS.items()
    if "multimodal_cfg" in config or config["text_cfg"].get("hf_model_name") is not None
]
SPECIALS = {  # pad, separator or end, and other tokens with the ids that the hub's tokenizers have
    "bert-base-uncased": ("[PAD]", "[CLS] $A [SEP]", ["[PAD]", "[unused]", "[UNK]", "[CLS]", "[SEP]"]),
    "facebook/xlm-v-base": ("<pad>", "<s> $A </s>", ["<s>", "<pad>", "</s>", "<unk>"]),
    "google/mt5-base": ("<pad>", "$A </s>", ["<pad>", "</s>", "<unk>"]),
    "timm/ViT-B-16-SigLIP": ("</s>", "$A </s>", ["<pad>", "</s>", "<unk>"]),
    "timm/ViT-B-16-SigLIP-i18n-256": ("</s>", "$A </s>", ["<pad>", "</s>", "<unk>"]),
    "SigLIP2": ("<pad>", "$A <eos>", ["<pad>", "<eos>", "<bos>", "<unk>"]),
}


def tower_of(name: str) -> TextTower:
    """The text tower by shape alone."""
    config = CONFIGS[name]
    with torch.device("meta"):
        made = open_clip.model._build_text_tower(
            config["embed_dim"], CLIPTextCfg(**config["text_cfg"]), config.get("quick_gelu", False)
        )
    return OpenClipText(cast(TextTransformer, made), embed_dim=config["embed_dim"])


def rows_of(tokenizer: Tokenizer, text: TextContract) -> np.ndarray[Any, Any]:
    """Rows as serving makes them, padded to the whole context."""
    return pad_tokens(tokenizer.encode(TEXTS), pad_id=text.pad_id, length=text.context_length)


@pytest.mark.parametrize("name", [name for name in OWN if name not in NOT_TAKEN])
def test_rows_of_clips_tokenizer_equal_open_clip_s(name: str) -> None:
    tower = tower_of(name)
    text = text_contract(CONFIGS[name]["text_cfg"], tower, name=name)
    theirs = open_clip.get_tokenizer(name)
    assert isinstance(theirs, open_clip.SimpleTokenizer)
    assert (text.tokenizer, text.pad_id) == ("clip", 0)
    assert text.context_length == theirs.context_length == tower.context_length
    assert has_clip_tokenizer(name)
    assert rows_of(clip_tokenizer(text), text).tolist() == theirs(list(TEXTS)).tolist()
    assert text.dynamic_length == (not CONFIGS[name]["text_cfg"].get("no_causal_mask", False))


def test_every_architecture_is_compared_or_named_as_not_taken() -> None:
    assert set(OWN) | set(OF_HUB) == set(open_clip.list_models())
    for name in NOT_TAKEN:
        with pytest.raises(ModelConfigError, match="not supported"):
            build_open_clip_text({"kind": "open_clip", "arch": name})
    assert [name for name in OWN if name in NOT_TAKEN] == ["coca_base", "coca_ViT-B-32", "coca_ViT-L-14"]
    assert len([name for name in OF_HUB if CONFIGS[name]["text_cfg"].get("tokenizer_kwargs") == STRIPPED]) == 6


STRIPPED = {"strip_sep_token": True}


def stand_in(folder: Path, hub_name: str) -> Path:
    """A small tokenizer with the special tokens of one of the hub, as `AutoTokenizer` reads it from a folder."""
    pad, template, specials = SPECIALS["SigLIP2" if "SigLIP2" in hub_name else hub_name]
    unknown = next(token for token in specials if token.lower().strip("[]<>") == "unk")
    file = TokenizerFile(models.BPE(unk_token=unknown))
    file.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    file.train_from_iterator(["a video of riding a bike", "two spaces tabs and capitals", "l'été à la plage"], trainer)
    used = [(token, specials.index(token)) for token in template.split() if token != "$A"]
    file.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    file.save(str(folder / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad, "unk_token": unknown}
    if "[SEP]" in specials:
        names |= {"sep_token": "[SEP]", "cls_token": "[CLS]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder / "tokenizer.json"


def their_rows(folder: Path, settings: Mapping[str, Any]) -> list[list[int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = open_clip.tokenizer.HFTokenizer(
            str(folder), context_length=settings["context_length"], **settings.get("tokenizer_kwargs", {})
        )
        return cast(list[list[int]], tokenizer(list(SHORT)).tolist())


SHORT = ("a video", "  Two   spaces,\tTABS ", "l'été &amp; plage!", "[SEP] bike", "x")  # fit into 16 tokens


@pytest.mark.parametrize("name", [name for name in OF_HUB if name not in NOT_TAKEN])
def test_options_of_the_hub_s_tokenizers_are_honoured(tmp_path: Path, name: str) -> None:
    pytest.importorskip("transformers")
    settings = OF_HUB[name]
    text = text_contract(settings, tower_of(name), name=name)
    assert text.tokenizer == "tokenizers"
    assert text.context_length == settings["context_length"]
    assert not has_clip_tokenizer(name)
    file = stand_in(tmp_path, settings["hf_tokenizer_name"])
    pad, _, specials = SPECIALS["SigLIP2" if "SigLIP2" in name else settings["hf_tokenizer_name"]]
    if "[SEP]" not in specials:  # the stand-in's ids are the hub's own, but for BERT's, which begin at 100
        assert text.pad_id == specials.index(pad)
    ready = apply_tokenizer_file(text, file)
    tokenizer = load_tokenizer(file, ready)
    texts = [each for each in SHORT if "[SEP]" not in each]  # special tokens in a label are ordinary text here
    found = pad_tokens(tokenizer.encode(texts), pad_id=ready.pad_id, length=ready.context_length)
    theirs = [row for row, each in zip(their_rows(tmp_path, settings), SHORT, strict=True) if "[SEP]" not in each]
    assert found.tolist() == theirs
    assert (ready.zeroed_token_id is not None) == ("CLIPA" in name)


def test_a_separator_is_counted_before_it_becomes_zero(tmp_path: Path) -> None:
    """The row of n tokens and a separator is n + 1 long: what fits is what open_clip does not cut."""
    file = stand_in(tmp_path, "bert-base-uncased")
    text = TextContract(
        tokenizer="tokenizers",
        context_length=5,
        dynamic_length=False,
        pad_id=0,
        zeroed_token_id=4,
        cleaning="whitespace",
    )
    tokenizer = load_tokenizer(file, text)
    counted = load_tokenizer(file, TextContract(**{**vars(text), "zeroed_token_id": None, "context_length": 99}))
    lengths = {each: len(counted.encode([each])[0]) for each in ("a video", "a video of riding a bike", "x")}
    for each, length in lengths.items():
        if length <= 5:
            assert tokenizer.encode([each])[0] == [0 if i == 4 else i for i in counted.encode([each])[0]]
        else:
            with pytest.raises(InvalidVocabulary, match=f"has {length} tokens, the model takes at most 5"):
                tokenizer.encode([each])
    assert min(lengths.values()) <= 5 < max(lengths.values())


def test_a_tokenizer_file_without_the_tokens_is_refused(tmp_path: Path) -> None:
    file = stand_in(tmp_path, "google/mt5-base")
    text = TextContract(tokenizer="tokenizers", context_length=8, dynamic_length=False, pad_id=0, zeroed_token_id=102)
    with pytest.raises(CheckpointError, match=r"sep_token: the tokenizer file has no token '\[SEP\]'"):
        apply_tokenizer_file(text, file)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "<blank>"}}))
    with pytest.raises(CheckpointError, match="pad_token: the tokenizer file has no token '<blank>'"):
        apply_tokenizer_file(text, file)
    (tmp_path / "tokenizer_config.json").unlink()
    plain = TextContract(**{**vars(text), "zeroed_token_id": None, "pad_id": 7})
    assert apply_tokenizer_file(plain, file).pad_id == 7
    written = TokenizerFile.from_file(str(file))
    written.enable_padding(pad_id=1, pad_token="</s>")
    written.save(str(file))
    assert apply_tokenizer_file(plain, file).pad_id == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokenizer_kwargs": {"clean": "canonicalize"}}, "clean: X uses 'canonicalize' with CLIP's"),
        ({"tokenizer_kwargs": {"reduction_mask": "syntax"}}, "reduction_mask: X uses 'syntax'"),
        ({"tokenizer_kwargs": {"language": "fra"}}, "X uses language"),
        ({"tokenizer_mode": "clips"}, "tokenizer_mode: X uses 'clips'"),
        ({"hf_tokenizer_name": "someone/else"}, "X uses someone/else, whose padding token is unknown"),
        ({"hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"clean": "odd"}}, "clean: X uses 'odd'"),
        ({"hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"language": "x"}}, "X uses language"),
        ({"hf_tokenizer_name": "google/mt5-base", "tokenizer_kwargs": STRIPPED}, "separator token of google/mt5-base"),
    ],
)
def test_options_that_serving_does_not_have_are_refused(changes: dict[str, Any], words: str) -> None:
    tower = cast(TextTower, SimpleNamespace(context_length=77, supports_variable_length=True))
    with pytest.raises(CheckpointError, match=words):
        text_contract({"context_length": 77, **changes}, tower, name="X")


@pytest.mark.parametrize("reduction", ["simple", "random", "shuffle"])
def test_reductions_of_long_texts_leave_texts_that_fit_alone(reduction: str) -> None:
    tower = cast(TextTower, SimpleNamespace(context_length=77, supports_variable_length=True))
    options = {"reduction_mask": reduction, "clean": "lower"}
    text = text_contract({"context_length": 77, "tokenizer_kwargs": options}, tower, name="X")
    theirs = open_clip.SimpleTokenizer(context_length=77, **options)
    assert rows_of(clip_tokenizer(text), text).tolist() == theirs(list(TEXTS)).tolist()
