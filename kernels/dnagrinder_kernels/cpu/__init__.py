"""x86-64 processors: the C++ kernels (csrc), their build on first use, and the functions that call them."""
