"""Attention control: what a source picture lends to a target, as algebra on queries, keys and values."""
