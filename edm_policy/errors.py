"""The errors a user can act on.

An EdmError is a user's mistake or a condition of the machine, never a bug: its message
is one line that says what failed, why, and the fix. Command lines print it without a
traceback and exit with `exit_code`.
"""


class EdmError(Exception):
    """What failed, why, and the fix, in one line."""

    exit_code = 1


class UsageError(EdmError, ValueError):
    """The request itself is wrong: an unknown name, a size that cannot be, two options at odds."""

    exit_code = 2


class PolicyError(EdmError):
    """A hook of a policy written in Python raised: which, where, and what."""


class CannotError(EdmError):
    """This machine cannot do it: a kernel feature, a program or a permission is missing."""

    exit_code = 77
