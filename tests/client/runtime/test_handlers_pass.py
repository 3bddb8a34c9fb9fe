"""No ``except`` of the client swallows or converts the exception of a signal handler, whatever its class."""

import ast
from pathlib import Path

import pytest

import holdfast

ROOT = Path(holdfast.__file__).parent
BROAD = {"RuntimeError", "OSError", "ValueError", "Exception", "BaseException"}
"""Classes that the exceptions of users' handlers often derive from, as `SystemExit` and `KeyboardInterrupt` do not."""
ALLOWED = {
    ("_runtime/signal_thread.py", "receive"): "runs on the thread of signals, where no handler is called",
    ("_runtime/parallel.py", "run"): "hands every error on to the caller",
    ("_save/background.py", "_run"): "hands every error on to the next save, or to `wait`",
    ("_save/job.py", "spill_to_spool"): "the other saves are to be written all the same",
    ("integrations/_common/nodes.py", "on_every_rank"): "the other ranks wait to be told; it is raised afterwards",
    ("_save/job.py", "_put_into_spool_despite"): "raises the first error, which was checked",
    ("_spool/courier.py", "_attempt"): "runs on the courier's thread",
    ("_arguments/checks.py", "limit"): "no system call, a few instructions",
    ("_arguments/checks.py", "_number"): "no system call, a few instructions",
}


def handlers():
    """Return every broad ``except`` with its file and function."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("cli/"):  # there a signal ends the command
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for found in own(function):
                    if isinstance(found, ast.ExceptHandler) and BROAD & names_in(found.type):
                        yield name, function.name, found


def own(function):
    """Yield the nodes of a function without those of functions inside it."""
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def names_in(expression):
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)} if expression else {"BaseException"}


def passes(handler):
    """Tell if an ``except`` looks for handlers' exceptions, or raises what it caught."""
    calls = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(handler) if isinstance(node, ast.Call)}
    raises = any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))
    return raises or bool(calls & {"reraise", "is_raised_by_handler"})


@pytest.mark.parametrize(
    ("name", "function", "handler"),
    [pytest.param(*each, id=f"{each[0]}:{each[2].lineno}") for each in handlers()],
)
def test_a_broad_except_lets_the_exceptions_of_handlers_pass(name, function, handler):
    assert passes(handler) or (name, function) in ALLOWED, "call `reraise(error)` first"


def test_every_exemption_is_needed():
    needed = {(name, function) for name, function, handler in handlers() if not passes(handler)}
    assert needed == set(ALLOWED)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("try: f()\nexcept OSError as e:\n  g()", False),
        ("try: f()\nexcept OSError as e:\n  reraise(e)\n  g()", True),
        ("try: f()\nexcept OSError:\n  g()\n  raise", True),
    ],
)
def test_a_breach_is_found(code, expected):
    (handler,) = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ExceptHandler))
    assert passes(handler) is expected
