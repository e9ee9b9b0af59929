"""The one error that users see."""


class EmuEditError(ValueError):
    """A user's slip, told in one sentence: what was wrong, where, the value met, and the mend.

    Everything in this package that rejects an input raises this class, so that a node or a command can
    show the sentence alone; any other exception is a bug of ours and keeps its traceback.
    """
