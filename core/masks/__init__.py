"""Masks: float tensors [B,H,W] in 0..1, made, grown, smoothed, combined and shown (DESIGN: the soft mask)."""
