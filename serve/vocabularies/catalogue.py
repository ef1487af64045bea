"""The vocabularies a server offers without being told any: each model's own labels, and Kinetics-400."""

from collections.abc import Iterable
from importlib import resources

from serve.contract import ModelContract
from serve.errors import UnknownVocabulary
from serve.vocabularies.vocabulary import Vocabulary

KINETICS = "kinetics400"


class Catalogue:
    """Vocabularies by name."""

    def __init__(self, vocabularies: Iterable[Vocabulary]) -> None:
        self._by_name = {vocabulary.name: vocabulary for vocabulary in vocabularies}

    def all(self) -> list[Vocabulary]:
        """Every vocabulary, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def get(self, reference: str) -> Vocabulary:
        """The vocabulary of a `name` or `name@version`.

        Raises:
            UnknownVocabulary: no such name, or not at that version.
        """
        name, _, version = reference.partition("@")
        found = self._by_name.get(name)
        if found is None:
            raise UnknownVocabulary(f"there is no vocabulary {name!r}", known=sorted(self._by_name))
        if version and version != str(found.version):
            raise UnknownVocabulary(f"vocabulary {name!r} has version {found.version}, not {version}")
        return found

    def default_for(self, contract: ModelContract) -> Vocabulary:
        """What a model is asked when a request names nothing: its own labels, else Kinetics-400."""
        return self._by_name[contract.name.lower() if contract.name.lower() in self._by_name else KINETICS]


def built_in(contracts: Iterable[ModelContract]) -> Catalogue:
    """Kinetics-400 and the labels each model's contract recommends, under the model's name."""
    own = [
        Vocabulary(
            name=contract.name.lower(),
            version=1,
            labels=contract.default_labels,
            description=f"labels that the model {contract.name} was made for",
        )
        for contract in contracts
        if contract.default_labels
    ]
    return Catalogue([kinetics400(), *own])


def kinetics400() -> Vocabulary:
    """Class names of Kinetics-400, in the order of its class ids."""
    text = (resources.files("serve.vocabularies") / "kinetics400.txt").read_text(encoding="utf-8")
    return Vocabulary(
        name=KINETICS,
        version=1,
        labels=tuple(text.splitlines()),
        description="class names of Kinetics-400, by class id",
    )
