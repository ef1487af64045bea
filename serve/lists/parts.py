"""Recognise the parts (splits) of a data set, train, val and test, in the spellings that data sets use."""

import re

TRAIN, VAL, TEST = "train", "val", "test"
PARTS = (TRAIN, VAL, TEST)
SPELLINGS = {
    TRAIN: ("train", "training", "trn"),
    VAL: ("val", "valid", "validation", "validate", "dev", "development"),
    TEST: ("test", "testing", "tst"),
}
PART_BY_SPELLING = {spelling: part for part, spellings in SPELLINGS.items() for spelling in spellings}
DEMO_SPLITS = frozenset(
    {"seen", "heldout", "pairs", "directions"}
)  # parts of the data set that `demo-data` writes, all for testing
IGNORED_WORDS = frozenset({"video", "videos", "clip", "clips", "frame", "frames", "rawframes", "images", "img", "rgb"})
IGNORED_WORDS |= {"data", "dataset", "set", "split", "splits", "subset"}
COMPOUND = re.compile(r"(train|training|val|valid|validation|dev|test|testing)(?:set|split|data|videos|clips|frames)")


def parse_part(text: str) -> str | None:
    """Return the part that a text spells, or None.

    >>> parse_part("Validation"), parse_part("TRAIN"), parse_part("testing"), parse_part("tuesday")
    ('val', 'train', 'test', None)
    """
    word = text.strip().casefold()
    return TEST if word in DEMO_SPLITS else PART_BY_SPELLING.get(word)


def parse_folder_part(name: str) -> str | None:
    """Return the part in a folder name, or None; words such as `videos` and numbers are ignored.

    >>> [parse_folder_part(name) for name in ("Train", "videos_val", "val_256", "testset")]
    ['train', 'val', 'val', 'test']
    >>> [parse_folder_part(name) for name in ("training a dog", "train station", "replacement")]
    [None, None, None]
    """
    part = parse_part(name)
    if part is not None:
        return part
    words = [word for word in re.split(r"[ ._-]+", name.casefold()) if word]
    compounds = [COMPOUND.fullmatch(word) for word in words]
    words = [match[1] if match else word for word, match in zip(words, compounds, strict=True)]
    parts = [PART_BY_SPELLING[word] for word in words if word in PART_BY_SPELLING]
    others = [
        word for word in words if word not in PART_BY_SPELLING and word not in IGNORED_WORDS and not word.isdecimal()
    ]
    return parts[0] if len(parts) == 1 and not others else None
