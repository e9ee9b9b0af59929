"""Synthetic pairs: pictures that differ only where an instruction says, with every chance recorded."""
