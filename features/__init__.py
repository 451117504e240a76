"""Streaming microstructure features: the kernel, what it counts, and the definitions made of that."""
