"""YAML as nodes with line numbers. A fault that leaves the rest readable is kept in its node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from yaml import CSafeLoader, MappingNode, MarkedYAMLError, Node, ScalarNode, YAMLError
from yaml.composer import Composer
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from yaml.nodes import CollectionNode
from yaml.resolver import Resolver

#: Deeper nesting is refused, because Python's stack is limited. The registry needs six levels.
MAX_DEPTH = 20

_CORE = "tag:yaml.org,2002:"
_TEXT, _INT, _FLOAT, _MERGE = f"{_CORE}str", f"{_CORE}int", f"{_CORE}float", f"{_CORE}merge"
#: The tag of a node that replaces what cannot be composed; its value is the error text.
_FAULT = "!fault"
#: Numbers as people write them. YAML 1.1 also reads 010 as 8, 1:30 as 90, 0b11 as 3, 1_0.5 and 1.0e+2; here these
#: are text.
_NUMBERS = {
    _INT: re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"),
    _FLOAT: re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"),
}


class Fault(NamedTuple):
    """An error text and its line."""

    line: int
    sentence: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.sentence}"


class _Duplicate(NamedTuple):
    key: str
    fault: Fault


class _Loader(Composer, CSafeLoader):
    """libyaml's parser, with nodes and values in Python. Every key is text, also `on` or 2024."""

    def __init__(self, text: str) -> None:
        CSafeLoader.__init__(self, text)
        Composer.__init__(self)
        self.depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: Any = self.peek_event()  # the types of PyYAML's events lack what each kind has
        known = self.anchors.get(event.anchor) if event.anchor else None
        if isinstance(event, AliasEvent):
            if known is None:
                return self._fault(f"*{event.anchor} has no &{event.anchor} above it: correct the name, or add it")
        elif known is not None:
            return self._fault(
                f"&{event.anchor} occurs a second time (first on line {line_of(known)}): write *{event.anchor} here,"
                " or give it another name"
            )
        elif self.depth == MAX_DEPTH:
            return self._fault(f"this is nested more than {MAX_DEPTH} levels deep: remove what does not belong here")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def _fault(self, sentence: str) -> ScalarNode:
        """Return a node in the place of the next one, which is skipped."""
        event: Any = self.peek_event()  # as above
        start, depth = event.start_mark, 0
        while True:
            event = self.get_event()
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth == 0:
                return ScalarNode(_FAULT, sentence, start, event.end_mark)

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        node.value = [(_as_text(key), value) for key, value in node.value]
        return node

    def flatten_mapping(self, node: MappingNode) -> None:
        super().flatten_mapping(node)
        # the keys of `<<` come first, and the last of a name counts
        last = {_name(key): (key, value) for key, value in node.value}
        node.value = list(last.values())

    def construct_object(self, node: Node, deep: bool = False) -> object:
        if node.tag == _FAULT:
            raise ConstructorError(None, None, node.value, node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError):  # PyYAML raises Python's own
            kind = node.tag.removeprefix(_CORE)
            raise ConstructorError(None, None, f"this is not a valid {kind}", node.start_mark) from None


_Loader.yaml_implicit_resolvers = {
    first: [(tag, _NUMBERS.get(tag, pattern)) for tag, pattern in resolvers]
    for first, resolvers in Resolver.yaml_implicit_resolvers.items()
}


def _as_text(key: Node) -> Node:
    if isinstance(key, ScalarNode) and key.tag.startswith(_CORE) and key.tag != _MERGE:
        return ScalarNode(_TEXT, key.value, key.start_mark, key.end_mark, key.style)
    return key


def _name(key: Node) -> object:
    return key.value if isinstance(key, ScalarNode) else id(key)


def key_text(key: Node) -> str | None:
    """The text of a key; None for a list, a mapping or an unreadable key."""
    return str(key.value) if isinstance(key, ScalarNode) and key.tag == _TEXT else None


def compose(text: str) -> Node | None:
    """Return the node of the document, or None if it is empty; raises YAMLError if the text is not YAML."""
    return _Loader(text).get_single_node()


def yaml_fault(error: YAMLError, text: str) -> Fault:
    """The error text of PyYAML, with its line."""
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    line = mark.line if mark else text.encode().count(b"\n", 0, getattr(error, "position", 0))
    return Fault(line + 1, getattr(error, "problem", None) or "it has a character that YAML does not allow")


def flatten(node: Node) -> None:
    """Merge what `<<` names into a mapping, as PyYAML does; raises YAMLError if that is not a mapping."""
    if isinstance(node, MappingNode):
        _Loader("").flatten_mapping(node)


def construct(node: Node) -> Any:
    """The value of a node; raises YAMLError."""
    return _Loader("").construct_document(node)


def faults(node: Node | None) -> list[Fault]:
    """Every fault at or below a node, by line: what was not composed, and duplicate keys of a mapping.

    YAML itself keeps the last of two keys without an error. Call it before `flatten`, which does the same.
    """
    found: list[Fault] = []
    for each in _nodes(node):
        if each.tag == _FAULT:
            found.append(Fault(line_of(each), each.value))
        elif isinstance(each, MappingNode):
            found += [duplicate.fault for duplicate in _duplicates(each)]
    return sorted(found)


def duplicates(node: Node | None) -> dict[str, Fault]:
    """The duplicate keys of this mapping, without the mappings below."""
    return dict(reversed(_duplicates(node)))


def has_twice(node: Node, key: str) -> bool:
    """Whether a mapping at or below a node has a key twice."""
    return any(key in duplicates(each) for each in _nodes(node) if isinstance(each, MappingNode))


def _duplicates(mapping: Node | None) -> list[_Duplicate]:
    found: list[_Duplicate] = []
    first: dict[str, int] = {}
    for key, _value in mapping.value if isinstance(mapping, MappingNode) else ():
        if isinstance(key, ScalarNode):
            if (name := key.value) in first:
                sentence = f"{name} occurs a second time (first on line {first[name]}): remove one of the two"
                found.append(_Duplicate(name, Fault(line_of(key), sentence)))
            first.setdefault(name, line_of(key))
    return found


def _nodes(node: Node | None, seen: set[int] | None = None) -> Iterator[Node]:
    """The node and all nodes below it, each once: an alias may refer to a node above."""
    seen = set() if seen is None else seen
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    yield node
    if isinstance(node, CollectionNode):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                yield from _nodes(part, seen)


def child(node: Node | None, key: object) -> Node | None:
    """The value of a key, or the item of an index; None if it does not exist."""
    if isinstance(node, MappingNode):
        return next((value for name, value in reversed(node.value) if name.value == str(key)), None)
    if isinstance(node, CollectionNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key]
    return None


def line_of(node: Node | None) -> int:
    return int(node.start_mark.line) + 1 if node is not None else 1


def key_line(node: Node | None, key: object) -> int:
    """The line of a key, or of an item of a list; the line of the node if it does not exist."""
    if isinstance(node, MappingNode):
        return next((line_of(name) for name, _ in reversed(node.value) if name.value == str(key)), line_of(node))
    item = child(node, key)
    return line_of(node if item is None else item)


def is_false(node: Node | None) -> bool:
    """Whether a node is YAML's false."""
    words = ("no", "false", "off")
    return isinstance(node, ScalarNode) and node.tag == f"{_CORE}bool" and node.value.lower() in words
