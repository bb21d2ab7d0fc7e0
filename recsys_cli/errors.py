"""Every error that a user can cause, each with the exit code that a shell script sees.

0 done · 1 failed while running · 2 wrong usage · 3 configuration refused · 4 data refused ·
5 artifact missing or unusable · 6 user or item unknown · 130 interrupted
"""


class RecsysError(Exception):
    """What went wrong and where, in one line, with a second line saying what to do about it."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class Terminated(BaseException):
    """SIGTERM was received: everything is tidied up on the way out, as after Ctrl-C."""


class UsageError(RecsysError):
    """The command was called in a way that has no meaning."""

    exit_code = 2


class ConfigError(RecsysError):
    """A configuration file, variable or `--set` was refused."""

    exit_code = 3


class DataError(RecsysError):
    """A dataset or an input file was refused."""

    exit_code = 4


class ArtifactError(RecsysError):
    """A run, bundle or checkpoint is missing, altered or of another version."""

    exit_code = 5


class UnknownIdError(RecsysError):
    """A user or item that the dataset does not hold."""

    exit_code = 6


def nearest(word: str, known) -> str | None:
    """The known word closest to a misspelt one, or None where nothing comes near."""
    import difflib

    matches = difflib.get_close_matches(word, [str(k) for k in known], n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(word: str, known, otherwise: str | None) -> str | None:
    """The hint for a name that is not known: the closest of those that are, or else what is told `otherwise`."""
    close = nearest(word, known)
    return f"did you mean {close!r}?" if close else otherwise
