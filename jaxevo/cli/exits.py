"""Exits: how a command ends that cannot go on."""

FAILED, BAD_INPUT, LIMIT, STORAGE = 1, 2, 3, 4
SIGNALLED = 128  # plus the number of the signal


class Stop(Exception):
    """The command ends here, with a sentence and an exit code."""

    def __init__(self, code: int, sentence: object) -> None:
        super().__init__(" ".join(str(sentence).split()))
        self.code = code
