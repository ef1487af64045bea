"""Names of the parts of a data set: train, val, test, in the spellings that data sets use."""

import re

TRAIN, VAL, TEST = "train", "val", "test"
PARTS = (TRAIN, VAL, TEST)
SPELLINGS = {
    TRAIN: ("train", "training", "trn"),
    VAL: ("val", "valid", "validation", "validate", "dev", "development"),
    TEST: ("test", "testing", "tst"),
}
KNOWN = {spelling: part for part, spellings in SPELLINGS.items() for spelling in spellings}
DEMO_SPLITS = frozenset({"seen", "heldout", "pairs", "directions"})  # splits of `demo-data`, all for testing
BESIDE = frozenset({"video", "videos", "clip", "clips", "frame", "frames", "rawframes", "images", "img", "rgb"})
BESIDE |= {"data", "dataset", "set", "split", "splits", "subset"}
GLUED = re.compile(r"(train|training|val|valid|validation|dev|test|testing)(?:set|split|data|videos|clips|frames)")


def part_of(text: str) -> str | None:
    """Return the part that a cell of a table names, or None.

    >>> part_of("Validation"), part_of("TRAIN"), part_of("testing"), part_of("tuesday")
    ('val', 'train', 'test', None)
    """
    word = text.strip().casefold()
    return TEST if word in DEMO_SPLITS else KNOWN.get(word)


def part_of_folder(name: str) -> str | None:
    """Return the part that a folder name contains, possibly with words such as `videos` and numbers.

    >>> part_of_folder("Train"), part_of_folder("videos_val"), part_of_folder("val_256"), part_of_folder("testset")
    ('train', 'val', 'val', 'test')
    >>> part_of_folder("training a dog"), part_of_folder("train station"), part_of_folder("replacement")
    (None, None, None)
    """
    whole = part_of(name)
    if whole is not None:
        return whole
    words = [word for word in re.split(r"[ ._-]+", name.casefold()) if word]
    glued = [GLUED.fullmatch(word) for word in words]
    words = [match[1] if match else word for word, match in zip(words, glued, strict=True)]
    parts = [KNOWN[word] for word in words if word in KNOWN]
    others = [word for word in words if word not in KNOWN and word not in BESIDE and not word.isdecimal()]
    return parts[0] if len(parts) == 1 and not others else None
