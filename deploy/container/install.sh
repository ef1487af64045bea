#!/bin/sh
# Install actserve with its serving extras into a virtual environment, without pip in it:
#   install.sh SOURCE TARGET cpu|gpu
# SOURCE may be read-only. The Dockerfiles run this; tests/deploy/test_container.py runs it as well.
set -eu

source=$1 target=$2 variant=$3
python=${PYTHON:-python3}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT="$source/constraints.txt"

# setuptools writes beside the sources, so it gets a copy of what it packs
cp -R "$source/pyproject.toml" "$source/README.md" "$source/LICENSE" "$source/NOTICE" \
    "$source/serve" "$source/export" "$source/training" "$source/model_repository" "$build/"
chmod -R u+w "$build"

"$python" -m venv --without-pip "$target"
pip() { "$python" -m pip --python "$target/bin/python" "$@"; }
pip install --quiet "${build}[triton,postgres,oidc,telemetry]"

runtime=$(sed -n 's/^onnxruntime-gpu==//p' "$source/constraints.txt")
case $variant in
cpu) # the same release without the CUDA provider, which is most of its size
    if pip show --quiet onnxruntime-gpu 2>/dev/null; then
        pip uninstall --quiet --yes onnxruntime-gpu
        pip install --quiet "onnxruntime==$runtime"
    fi ;;
gpu) pip install --quiet "onnxruntime-gpu[cuda,cudnn]==$runtime" ;;
*) echo "the variant must be cpu or gpu, got $variant" >&2; exit 2 ;;
esac

# what only developers need, and the parts of OpenVINO for other devices and file formats than the server uses
packages=$("$target/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
find "$packages" -type d \( -name tests -o -name include \) -prune -exec rm -r {} +
find "$packages" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.cpp' -o -name '*.h' \) -delete
for part in intel_gpu_plugin intel_npu_plugin tensorflow_frontend tensorflow_lite_frontend pytorch_frontend paddle_frontend \
    gguf_frontend jax_frontend; do
    rm -f "$packages/openvino/libs/libopenvino_$part.so"*
done
rm -f "$packages/openvino/libs/cache.json"  # kernels for GPUs
