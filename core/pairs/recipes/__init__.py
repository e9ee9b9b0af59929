"""Recipes: how candidates of pairs are made, by task (Emu Edit, arXiv 2311.10089, appendix 7.2.3-7.2.5)."""
