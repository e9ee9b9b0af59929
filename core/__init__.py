"""The shared library: algorithms over a small backbone protocol. Imports no ComfyUI."""
