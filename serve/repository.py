"""Model repository folder: references `NAME[@VERSION]`, the versions on disk, their contracts and file hashes.

The functions do blocking I/O, so the server calls them in a worker thread. Hashing a large version takes seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.contract import ModelContract, check_field, read_contract
from serve.errors import ContractError, UnknownModel
from serve.files import file_sha256
from serve.text.normalization import duplicate_groups, is_visible, normal_form
from serve.version_numbers import MAX_VERSION, parse_version

DEFAULT_FOLDER = Path("model_repository")
BUNDLED_REPOSITORY = Path(__file__).resolve().parents[1] / DEFAULT_FOLDER  # beside the package `serve`


def default_repository() -> Path:
    """Return `model_repository` in the working directory if it exists, else the folder of the bundled models."""
    return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() else BUNDLED_REPOSITORY


@dataclass(frozen=True)
class ModelReference:
    """Name of a model and optionally a version."""

    name: str
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelReference":
        """Split `NAME` or `NAME@VERSION`.

        >>> ModelReference.parse("demo@2")
        ModelReference(name='demo', version=2)

        Raises:
            UnknownModel: the part after `@` is not a version number.
        """
        name, at, version = text.partition("@")
        if not at:
            return cls(name)
        number = parse_version(version)
        if number is None:
            raise UnknownModel(
                f"a model reference must be NAME or NAME@VERSION with a version from 1 to {MAX_VERSION}, "
                f"got {text[:100]!r}"
            )
        return cls(name, number)

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


def contract_path(repository: Path, name: str, version: int) -> Path:
    """Return the path of a version's contract: `NAME_video/VERSION/contract.json`."""
    return repository / f"{name}_video" / str(version) / "contract.json"


def model_names(repository: Path) -> list[str]:
    """Return the names of the models that have at least one version, sorted."""
    contracts = repository.glob("*_video/*/contract.json")
    return sorted({path.parent.parent.name.removesuffix("_video") for path in contracts})


def model_versions(repository: Path, name: str) -> list[int]:
    """Return the version numbers of a model (folders with a contract) in ascending order."""
    folders = (repository / f"{name}_video").glob("*/contract.json")
    versions = (parse_version(path.parent.name) for path in folders)
    return sorted(version for version in versions if version is not None)


def read_version(repository: Path, name: str, version: int) -> ModelContract:
    """Read the contract of a version and check that it states this name and number.

    Raises:
        ContractError: see `read_contract` and `check_default_labels`; or the contract states another name or version.
    """
    contract = read_contract(contract_path(repository, name, version))
    check_field(contract.name == name, "name", name, contract.name)
    check_field(contract.version == version, "version", version, contract.version)
    check_default_labels(contract.default_labels)
    return contract


def check_default_labels(labels: Sequence[str]) -> None:
    """Check that the default labels of a contract have visible characters and are distinct, as in any vocabulary.

    Raises:
        ContractError: they are not.
    """
    forms = [normal_form(label) for label in labels]
    empty = [label for label, form in zip(labels, forms, strict=True) if not is_visible(form)]
    check_field(not empty, "default_labels", "labels with at least one visible character", empty)
    duplicates = [[labels[index] for index in group] for group in duplicate_groups(forms)]
    check_field(not duplicates, "default_labels", "distinct labels", duplicates)


def find_contract(repository: Path, reference: str | ModelReference) -> ModelContract:
    """Read the contract of `NAME` (its newest version) or `NAME@VERSION`.

    Raises:
        UnknownModel: the repository has no such model or version.
        ContractError: the contract is not supported, or states another name or version than its folder.
    """
    requested = ModelReference.parse(reference) if isinstance(reference, str) else reference
    names = model_names(repository)  # prevents path traversal: only these names are used in paths
    versions = model_versions(repository, requested.name) if requested.name in names else []
    if not versions or (requested.version is not None and requested.version not in versions):
        known = [f"{name}@{version}" for name in names for version in model_versions(repository, name)]
        if not repository.is_dir():
            raise UnknownModel(
                f"the model repository {str(repository)!r} does not exist; set SERVE_REPOSITORY or --repository",
                known=[],
            )
        raise UnknownModel(
            f"{repository} has no model {str(requested)!r}; it has {', '.join(known) or 'none'}", known=known
        )
    return read_version(repository, requested.name, versions[-1] if requested.version is None else requested.version)


def list_contracts(repository: Path) -> list[tuple[str, int, ModelContract | ContractError]]:
    """Return the name, version and contract of every version, or the error if it cannot be served."""
    versions: list[tuple[str, int, ModelContract | ContractError]] = []
    for name in model_names(repository):
        for version in model_versions(repository, name):
            try:
                contract: ModelContract | ContractError = read_version(repository, name, version)
            except ContractError as error:
                contract = error
            versions.append((name, version, contract))
    return versions


def verify_files(contract: ModelContract, repository: Path) -> None:
    """Compare the SHA-256 of every file with the contract.

    Raises:
        ContractError: a file is missing or differs.
    """
    for name, expected in contract.file_hashes().items():
        verify_file(repository, name, expected)


def verify_file(repository: Path, name: str, expected: str) -> None:
    """Compare the SHA-256 of one file with the expected one.

    Raises:
        ContractError: the file is missing or differs.
    """
    path = repository / name
    if not path.is_file():
        raise ContractError(f"{name}: the contract lists this file, but it is missing", field=name)
    actual = file_sha256(path)
    check_field(actual == expected, f"sha256 of {name}", expected, actual)
