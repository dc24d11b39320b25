#!/usr/bin/env bash
# flash-attn, where pip finds or can compile a build for this torch and CUDA. It is no must: without it the Triton kernels
# compute the same. What pip said stands in the environment's flash-attn.log.
set -euo pipefail

if python -m pip install --no-build-isolation flash-attn==2.8.3.post2 > "$CONDA_PREFIX/flash-attn.log" 2>&1; then
    echo "flash-attn is installed"
else
    echo "flash-attn could not be installed and is not used, see $CONDA_PREFIX/flash-attn.log"
fi
