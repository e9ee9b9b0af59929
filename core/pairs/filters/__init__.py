"""Filters: small scored functions on candidates, and what they say together."""
