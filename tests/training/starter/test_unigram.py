"""A unigram model as a `tokenizers` file gives the ids of the sentencepiece library."""

import io
import random
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer as TokenizerFile

from serve.contract import TextContract
from serve.text.tokenizer import Tokenizer
from training.starter.unigram import END_ID, START_ID, make_tokenizer_json, parse_unigram_model
from training.starter.words import evaluation_labels, everyday_labels

SENTENCES = (
    "يقرأ الرجل كتابًا في الحديقة", "الرقص على المسرح", "犬と散歩する", "コーヒーを注ぐ", "ｶﾀｶﾅ ﾊﾝｶｸ ～ 全角",
    "자전거를 타다", "คนกำลังเล่นกีตาร์", "เดินเล่นกับสุนัข", "kahve dökmek, İstanbul'da", "читать книгу",
    "czytać książkę, żółw i gęś", "passeggiare con il cane: perché è così", "l’œuvre d’été", "passear com o cão",
    "de hond uitlaten", "打籃球的人", "  two  spaces  ", "tab\there", "e\u0301 combining a\u0300\u0301\u0302b",
    "ﬁ ½ ² ™ Ａ Ｂ ㌔ ①", "🎉 👨‍👩‍👧", "<s> literal </s> <unk>", "▁ underscore ▁▁", "\u200bzero\u00a0width", "ß ẞ", "",
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> bytes:
    """A unigram model of 1,500 pieces, normalised as the Universal Sentence Encoder's is."""
    written = io.BytesIO()
    texts = [*everyday_labels(), *(label for labels in evaluation_labels().values() for label in labels), *SENTENCES]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in texts if text]),
        model_writer=written,
        vocab_size=1500,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    return written.getvalue()


@pytest.fixture(scope="module")
def pair(model: bytes) -> tuple[TokenizerFile, sentencepiece.SentencePieceProcessor]:
    ours = TokenizerFile.from_str(make_tokenizer_json(parse_unigram_model(model)))
    return ours, sentencepiece.SentencePieceProcessor(model_proto=model)


def assert_same(pair: tuple[TokenizerFile, sentencepiece.SentencePieceProcessor], texts: list[str]) -> None:
    ours, theirs = pair
    for text in texts:
        found = ours.encode(text).ids
        assert (found[0], found[-1]) == (START_ID, END_ID)
        assert found[1:-1] == theirs.encode(text), repr(text)


def test_texts_of_many_languages_have_the_same_ids(pair: tuple[TokenizerFile, object]) -> None:
    ours = pair[0]
    ours.encode_special_tokens = True
    assert_same(
        pair, [*SENTENCES, *everyday_labels(), *(label for labels in evaluation_labels().values() for label in labels)]
    )


def test_every_character_of_the_basic_plane_has_the_same_ids(pair: tuple[TokenizerFile, object]) -> None:
    skipped = set(range(0xD800, 0xE001))  # surrogates, and the private one that is set aside
    assert_same(pair, [f"ab{chr(code)}c" for code in range(0x20, 0x10000) if code not in skipped])


def test_pieces_in_any_order_have_the_same_ids(pair: tuple[TokenizerFile, object], model: bytes) -> None:
    generator = random.Random(0)
    pieces = [piece.text.replace("▁", " ") for piece in parse_unigram_model(model).pieces[3:]]
    assert_same(pair, ["".join(generator.choices(pieces, k=generator.randint(1, 8))) for _ in range(2000)])


def test_control_pieces_cannot_be_spelled(model: bytes, tmp_path: Path) -> None:
    file = TokenizerFile.from_str(make_tokenizer_json(parse_unigram_model(model)))
    contract = TextContract(tokenizer="tokenizers", context_length=64, dynamic_length=True, pad_id=9999)
    rows = Tokenizer(file, contract).encode(["<s> dancing </s>", "\x01<s> dancing", "<unk>"])
    for row in rows:
        assert START_ID not in row[1:-1] and END_ID not in row[1:-1]
