"""What libm5 throws. Each is an m5.Error, and what Python has for the like."""


class Error(Exception):
    """Any error of m5. exit_code: what the command `m5` would end with."""

    exit_code = 1


class UsageError(Error, ValueError):
    """An argument out of range."""

    exit_code = 2


class InputError(Error, ValueError):
    """A sequence that is none."""

    exit_code = 3


class ModelError(Error, ValueError):
    """A model file that cannot be trusted or used."""

    exit_code = 4


class IoError(Error, OSError):
    """A file that cannot be opened, read or written."""

    exit_code = 5


class ResourceError(Error, MemoryError):
    """Too little memory, or no such device."""

    exit_code = 6


class NumericError(Error, ArithmeticError):
    """The model gives a value that is not finite."""

    exit_code = 7


BY_EXIT_CODE = {
    kind.exit_code: kind
    for kind in (Error, UsageError, InputError, ModelError, IoError, ResourceError, NumericError)
}
