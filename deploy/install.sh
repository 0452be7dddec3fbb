#!/bin/sh
# Installs unblur with its server into a folder of its own: deploy/install.sh [FOLDER], by default
# /opt/unblur. The Dockerfile runs the same.
set -eu
target=${1:-/opt/unblur}
source=$(cd "$(dirname "$0")/.." && pwd)
python3 -m venv "$target"
"$target/bin/pip" install --no-cache-dir --disable-pip-version-check "$source[web,openvino,heif]"
"$target/bin/unblur" models > /dev/null
echo "installed: $target/bin/unblur serve"
