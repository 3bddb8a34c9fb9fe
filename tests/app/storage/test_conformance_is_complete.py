"""Every member of every storage port has a case in the conformance suite."""

import ast
from pathlib import Path

import pytest
from typing_extensions import get_protocol_members

from app.storage import ports

NAMES = {
    "ContentStore": {"content"},
    "RecordStore": {"records"},
    "Inventory": {"records"},
    "RootMarks": {"marks"},
    "Volume": {"volume"},
    "Adoption": {"adoption"},
    "ExternalFolder": {"visited"},
    "Partial": {"partial"},
    "Opened": {"opened", "found"},
}
"""The names by which the suite holds each port."""
FUNCTIONS = {"SupportsDescriptor": "descriptor_of"}
"""The ports that are reached through a function."""

PORTS = {name: found for name, found in vars(ports).items() if getattr(found, "_is_protocol", False)}
SUITE = [ast.parse(path.read_text()) for path in sorted(Path(__file__).parent.glob("test_conformance*.py"))]
USED = {
    (ast.unparse(node.value).rpartition(".")[2], node.attr)
    for tree in SUITE
    for node in ast.walk(tree)
    if isinstance(node, ast.Attribute)
}
CALLED = {ast.unparse(node.func) for tree in SUITE for node in ast.walk(tree) if isinstance(node, ast.Call)}
CLOSED = {
    node.optional_vars.id
    for tree in SUITE
    for node in ast.walk(tree)
    if isinstance(node, ast.withitem)
    and isinstance(node.optional_vars, ast.Name)
    and ast.unparse(node.context_expr).startswith("closing(")
}
MEMBERS = [
    (port, member)
    for port in sorted(PORTS)
    for member in sorted(get_protocol_members(PORTS[port]))
    if port not in FUNCTIONS
]


@pytest.mark.parametrize(("port", "member"), MEMBERS, ids=[".".join(each) for each in MEMBERS])
def test_a_member_of_a_port_has_a_case(port, member):
    is_closed = member == "close" and NAMES[port] & CLOSED
    assert is_closed or any((name, member) in USED for name in NAMES[port])


def test_every_port_is_known_here():
    assert PORTS.keys() == NAMES.keys() | FUNCTIONS.keys()
    assert set(FUNCTIONS.values()) <= CALLED
