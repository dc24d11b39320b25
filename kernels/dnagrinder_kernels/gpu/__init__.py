"""GPUs: Triton kernels, the plan of key blocks that they visit, the adapter to flash-attn. Imported only where used."""
