#!/bin/sh
# sh install_torch.sh PYTHON [INDEX] installs torch of torch.txt into the environment of PYTHON.
#
# The CPU build and the CUDA build have the same version and lie on different indexes, so pip is
# first asked which build it would take, and the wheel is then held against the hashes of both. It
# runs after the other requirements are installed: only CUDA's libraries are missing then, which
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

pip download --no-deps --dest "$wheels" ${index:+--index-url "$index"} "$pin"
pip install --no-compile --no-deps --no-index --find-links "$wheels" --require-hashes \
    -r "$here/torch.txt"
pip install --no-compile "$pin"
