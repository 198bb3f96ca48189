"""Invariants of erasures: what docs/how-to/cleanup.md says is without an erased player."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.chaos.checker.world import EXPORT, IMPORT, STATE, Stored, Violation, World, rows_of_parquet

#: Objects in which an erased player may remain: the studio's own list, and what a graph load copies of the graph files.
_MAY_NAME = ("do_not_contact.txt", "staged/graph_loads/", "erasure/")
#: The names of what `write_graph` adds to a player's vertex, its properties and edges, begin so.
_OURS = "eng_"


def erased_stay_out(world: World) -> Iterator[Violation]:
    """No file, no subscribed contact and no engagement in the graph is of a player whose erasure has succeeded.

    The vertex itself, and a contact that has unsubscribed, stay.
    """
    if not world.erased:
        return
    names = re.compile("|".join(rf"\b{re.escape(player)}\b" for player in sorted(world.erased)).encode())
    for place, stored in _files(world):
        if found := names.search(_text(place, stored)):
            yield Violation("erased stay out", f"{place} names an erased player", (place, found[0].decode()))
    for address in sorted(world.contacts - world.opted_out):
        if (player := world.players.get(address)) in world.erased:
            yield Violation("erased stay out", "an erased player is on the contact list", (str(player),))
    for player in sorted(world.erased & world.graph.keys()):
        if ours := sorted(name for name in world.graph[player] if name.startswith(_OURS)):
            said = f"the vertex of an erased player has {', '.join(ours)}"
            yield Violation("erased stay out", said, (player,))


def _files(world: World) -> Iterator[tuple[str, Stored]]:
    """Each version of each object that is to be without them, with its key."""
    for role in (EXPORT, IMPORT, STATE):
        yield from sorted((key, each) for key, each in world.buckets[role].items() if not key.startswith(_MAY_NAME))
    for key, versions in sorted(world.earlier.items()):
        if not key.startswith(_MAY_NAME):
            yield from ((key, each) for each in versions)


def _text(key: str, stored: Stored) -> bytes:
    """What is searched: Parquet is compressed."""
    return repr(rows_of_parquet(stored)).encode() if key.endswith(".parquet") else stored.body


CHECKS = (erased_stay_out,)
