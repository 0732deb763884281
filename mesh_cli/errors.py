"""Errors of the command and the exit codes that scripts may rely on."""

from mesh import errors as call_errors

EXIT_FAILED = 1
"""The command was tried and did not succeed, or a part is not healthy."""
EXIT_BAD_INPUT = 2
"""The command line or the input is wrong; nothing was done."""
EXIT_AWAY = 3
"""No mesh is up here, or a part of it does not answer."""

EXIT_ROLLED_BACK = 4
"""`mesh canary`: the Challenger was worse, and the Champion has all traffic again."""
EXIT_PAUSED = 5
"""`mesh canary`: the numbers do not decide, so the traffic shares stay as they are."""


class CliError(Exception):
    """The command cannot go on; the message says why and what to do."""

    exit_code = EXIT_FAILED


class BadInput(CliError):
    """The command line or a file is wrong."""

    exit_code = EXIT_BAD_INPUT


class NotUp(CliError):
    """No mesh is up."""

    exit_code = EXIT_AWAY


def exit_code_of(error: call_errors.MeshError) -> int:
    """Exit code for a failed call."""
    if isinstance(error, call_errors.InvalidArgument | call_errors.NotFound):
        return EXIT_BAD_INPUT
    if isinstance(error, call_errors.Unavailable | call_errors.DeadlineExceeded):
        return EXIT_AWAY
    return EXIT_FAILED
