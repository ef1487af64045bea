"""Built-in vocabularies: Kinetics-400, and the labels each model was made for."""

from collections.abc import Iterable
from contextlib import suppress
from importlib import resources

from serve.contract import ModelContract
from serve.errors import StaleVersion, UnknownVocabulary
from serve.vocabularies.labels import Label
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary

KINETICS = "kinetics400"
BUILT_IN = "built-in"  # author of built-in versions


def seed(store: VocabularyStore, vocabularies: Iterable[Vocabulary]) -> None:
    """Store new built-in vocabularies and update those that no user has changed. Blocks."""
    for vocabulary in vocabularies:
        with suppress(StaleVersion):  # another gateway stored it first
            try:
                found = store.load(vocabulary.name)
            except UnknownVocabulary:
                store.commit(vocabulary, expected=None)
                continue
            if found.author == BUILT_IN and found.label_names != vocabulary.label_names:
                store.commit(vocabulary, expected=found.version)


def built_in(contracts: Iterable[ModelContract]) -> list[Vocabulary]:
    """Return Kinetics-400, and the default labels of each contract under the name of its model."""
    own = [
        _built_in_version(
            contract.name.lower(), contract.default_labels, f"labels that the model {contract.name} was made for"
        )
        for contract in contracts
        if contract.default_labels
    ]
    text = (resources.files("serve.vocabularies") / f"{KINETICS}.txt").read_text(encoding="utf-8")
    return [_built_in_version(KINETICS, tuple(text.splitlines()), "class names of Kinetics-400, by class id"), *own]


def _built_in_version(name: str, labels: tuple[str, ...], description: str) -> Vocabulary:
    return Vocabulary(
        name=name,
        version=0,
        labels=tuple(Label(label_id=f"{index:06x}", name=label) for index, label in enumerate(labels)),
        description=description,
        author=BUILT_IN,
        note="built-in",
    )
