#!/usr/bin/env bash
# flash-attn comes as source only and needs the environment's torch to build: hence after the environment, without
# isolation. The library runs without it, on PyTorch's own operations; a failed build is told and is no error.
set -euo pipefail
python -m pip install --no-deps --no-build-isolation "flash-attn>=2.7,<3" \
    || echo "flash-attn could not be built; dnaGrinder uses its other GPU kernels" >&2
