"""Built-in vocabularies: Kinetics-400 and the default labels of each model."""

from collections.abc import Iterable
from contextlib import suppress
from importlib import resources

from serve.contract import ModelContract
from serve.errors import StaleVersion, UnknownVocabulary
from serve.vocabularies.labels import Label
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary

KINETICS = "kinetics400"
BUILT_IN_AUTHOR = "built-in"  # author of built-in versions


def seed(store: VocabularyStore, vocabularies: Iterable[Vocabulary]) -> None:
    """Store new built-in vocabularies and update stored ones that no user has changed. Blocks."""
    for vocabulary in vocabularies:
        with suppress(StaleVersion):  # another server process has stored it meanwhile
            try:
                stored = store.load(vocabulary.name)
            except UnknownVocabulary:
                store.commit(vocabulary, expected=None)
                continue
            if stored.author == BUILT_IN_AUTHOR and stored.label_names != vocabulary.label_names:
                store.commit(vocabulary, expected=stored.version)


def built_in_vocabularies(contracts: Iterable[ModelContract]) -> list[Vocabulary]:
    """Return Kinetics-400, and for each contract with default labels a vocabulary named after its model."""
    model_vocabularies = [
        _make_built_in(
            contract.name.lower(), contract.default_labels, f"labels that the model {contract.name} was made for"
        )
        for contract in contracts
        if contract.default_labels
    ]
    text = (resources.files("serve.vocabularies") / f"{KINETICS}.txt").read_text(encoding="utf-8")
    kinetics = _make_built_in(KINETICS, tuple(text.splitlines()), "class names of Kinetics-400, by class id")
    return [kinetics, *model_vocabularies]


def _make_built_in(name: str, labels: tuple[str, ...], description: str) -> Vocabulary:
    return Vocabulary(
        name=name,
        version=0,
        labels=tuple(Label(label_id=f"{index:06x}", name=label) for index, label in enumerate(labels)),
        description=description,
        author=BUILT_IN_AUTHOR,
        note="built-in",
    )
