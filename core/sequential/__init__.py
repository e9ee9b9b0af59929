"""Sequential edits: put back what an editor did not mean to change, turn after turn, at the first picture's
size.

`keep.keep_edit` does the steps in order; each of them stands alone too:
geometry (where a pixel went), register (measure it), colour (undo a drift), change (what was edited),
composite (take that and nothing else), history (the first picture, many turns later).
"""
