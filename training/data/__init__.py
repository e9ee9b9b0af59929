"""Readers of pairs for training: our own shards, public edit datasets as published, the procedural world."""
