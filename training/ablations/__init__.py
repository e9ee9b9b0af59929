"""Emu Edit's ablations, reproduced small on the bundled editor and its world.

    python -m emu_edit.training.ablations --out docs [--only a d e] [--quick]

measures what is not measured yet, cell by cell, and writes docs/ablations.md and its plots. Stop it at any
time: the same command goes on.
"""
