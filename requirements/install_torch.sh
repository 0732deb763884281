#!/bin/sh
# sh install_torch.sh PYTHON [INDEX] installs torch of torch.txt into the environment of PYTHON.
#
# The CPU build and the CUDA build have the same version and lie on different indexes, so pip is
# first asked which build it would take. The wheel is then held against torch.txt, which lists every
# build of PyPI, and the CPU build for Linux on x86-64 and Python 3.11.
#
# An index of your own may have builds that torch.txt does not know. Such a build is installed with
# a warning that names its SHA-256; TORCH_SHA256 allows no other build than the one with that hash.
# Without an index of your own, a build that torch.txt does not know is refused.
#
# It runs after the other requirements are installed: only CUDA's libraries are missing then, which
# the checked wheel itself asks for by their exact versions. The CPU build asks for none.
set -eu
python=$1
index=${2:-}
here=$(dirname "$0")
pin=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' "$here/torch.txt")
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT

pip() {
    command="$1"
    shift
    "${PIP:-pip}" --quiet --disable-pip-version-check --no-input --python "$python" \
        "$command" --progress-bar off "$@"
}

# URL of the index that pip takes when nothing is configured.
default=$(PYTHONPATH=$("${PIP:-pip}" --version | sed 's/.* from \(.*\)\/pip (.*/\1/') "$python" -c \
    'from pip._internal.models.index import PyPI; print(PyPI.simple_url)' || true)

# Where pip looks besides that one: what its files and variables of the environment configure.
indexes() {
    echo "$index"
    "${PIP:-pip}" --disable-pip-version-check config list \
        | grep -E "(index-url|find-links)=" | grep -v -F -e "='$default'" -e "='$default/'" || true
}

pip download --no-deps --dest "$wheels" ${index:+--index-url "$index"} "$pin"
wheel=$(ls "$wheels")
hash=$("$python" -c \
    'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' \
    "$wheels/$wheel")

if [ -n "${TORCH_SHA256:-}" ]; then
    if [ "$hash" != "$TORCH_SHA256" ]; then
        echo "$wheel has the SHA-256 $hash, and TORCH_SHA256 allows $TORCH_SHA256 only" >&2
        exit 1
    fi
elif ! grep -q "$hash" "$here/torch.txt"; then
    if [ -z "$(indexes)" ]; then
        echo "$wheel has the SHA-256 $hash, which is not in requirements/torch.txt." >&2
        echo "It may have been changed on its way here. If you trust it: TORCH_SHA256=$hash" >&2
        exit 1
    fi
    echo "warning: $wheel comes from an index of your own, and requirements/torch.txt does" >&2
    echo "not know it. To allow this build only, set TORCH_SHA256=$hash" >&2
fi

echo "$pin --hash=sha256:$hash" > "$wheels/allowed.txt"
pip install --no-compile --no-deps --no-index --find-links "$wheels" --require-hashes \
    -r "$wheels/allowed.txt"
pip install --no-compile "$pin"
