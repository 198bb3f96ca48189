"""The profiles of one domain: their attributes, search keys and expiry.

Error texts hold no values: an address or a name never reaches a response's message.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from local.rest_json import shapes
from local.rest_json.naming import hex_id

MODEL = "customer-profiles"
Path = tuple[str, ...]
Document = dict[str, Any]

# [shape SearchProfilesRequest.KeyName] names the predefined keys; those of other systems' objects are not here.
_SEARCH_KEYS: dict[str, tuple[str, ...]] = {
    "_account": ("AccountNumber",),
    "_phone": ("PhoneNumber", "MobilePhoneNumber", "HomePhoneNumber", "BusinessPhoneNumber"),
    "_email": ("EmailAddress", "PersonalEmailAddress", "BusinessEmailAddress"),
}


class ProfileError(ValueError):
    """An invalid profile or value; the text says why."""


@cache
def target(text: str) -> tuple[Path, Any]:
    """Return the path in a profile that `_profile.Address.City` names, and its shape.

    [shape ObjectTypeField.Target] "The location of the data in the standard ProfileObject model. For example:
    _profile.Address.PostalCode"; [Connect guide: imported files] custom attributes are `Attributes.<name>`.
    """
    head, _, rest = text.partition(".")
    name, _, inner = rest.partition(".")
    members = cast(Any, shapes.service(MODEL).shape_for("Profile")).members
    found = members.get(name) if head == "_profile" and name != "ProfileId" else None
    if found is not None and found.type_name == "string" and not inner:
        return (name,), found
    if found is not None and found.type_name == "map" and inner:
        return (name, inner), found.value
    if found is not None and found.name == "Address" and inner in found.members:
        return (name, inner), found.members[inner]
    raise ProfileError("A Target must be _profile.<a standard attribute> or _profile.Attributes.<a name>.")


def value_at(document: Document, path: Path) -> str | None:
    place: Any = document
    for step in path:
        place = place.get(step) if isinstance(place, dict) else None
    return cast(str | None, place)


@dataclass
class Entry:
    document: Document
    expires: float


@dataclass
class ProfileBook:
    """All profiles of a domain, by id and by the attributes that uploads match on."""

    domain: str
    by_id: dict[str, Entry] = field(default_factory=dict)
    _indexes: dict[Path, dict[str, set[str]]] = field(default_factory=dict)
    _made: int = 0
    _next_expiry: float = math.inf

    def matching(self, path: Path, value: str) -> set[str]:
        """The ids of the profiles that hold this value at a path."""
        if path not in self._indexes:
            index: dict[str, set[str]] = defaultdict(set)
            for profile_id, entry in self.by_id.items():
                if (held := value_at(entry.document, path)) is not None:
                    index[held].add(profile_id)
            self._indexes[path] = index
        return self._indexes[path].get(value, set())

    def make(self, values: dict[Path, str], expires: float) -> str:
        self._made += 1
        profile_id = hex_id(self.domain, "profile", self._made)
        # [strict] A profile without a type is an account profile [shape ProfileType].
        self.by_id[profile_id] = Entry({"ProfileId": profile_id, "ProfileType": "PROFILE"}, expires)
        self.update(profile_id, values, expires)
        return profile_id

    def update(self, profile_id: str, values: dict[Path, str], expires: float | None) -> None:
        """Set the given values and keep the others; an empty value removes [shape UpdateProfile].

        [shape CreateUploadJobRequest.DataExpiry] "for the profiles ingested with the job": [strict] the whole profile
        expires as the newest job says, also earlier than an older one said.
        """
        entry = self.by_id[profile_id]
        for path, value in values.items():
            self._set(profile_id, entry.document, path, value)
        if expires is not None:
            entry.expires = expires
        self._next_expiry = min(self._next_expiry, entry.expires)

    def delete(self, profile_id: str) -> bool:
        entry = self.by_id.pop(profile_id, None)
        if entry is not None:
            for path, index in self._indexes.items():
                if (held := value_at(entry.document, path)) is not None:
                    index[held].discard(profile_id)
        return entry is not None

    def expire(self, now: float) -> None:
        """[Connect guide: imported files] "removes expired profiles from the segment and the profiles domain"."""
        if now >= self._next_expiry:
            for profile_id in [i for i, entry in self.by_id.items() if entry.expires <= now]:
                self.delete(profile_id)
            self._next_expiry = min((entry.expires for entry in self.by_id.values()), default=math.inf)

    def search(self, keys: Iterable[tuple[str, list[str]]], every: bool) -> Iterator[Document]:
        """The profiles that fit one of the keys, or every one of them; raises ProfileError for a key not known."""
        wanted = list(keys)
        for name, _ in wanted:
            if name not in (*_SEARCH_KEYS, "_profileId", "_fullName"):
                raise ProfileError("A KeyName must be one of the predefined keys.")
        for entry in self.by_id.values():
            fits = [bool(_searchable(entry.document, name) & set(values)) for name, values in wanted]
            if all(fits) if every else any(fits):
                yield entry.document

    def _set(self, profile_id: str, document: Document, path: Path, value: str) -> None:
        index = self._indexes.get(path)
        held = value_at(document, path)
        place = document
        for step in path[:-1]:
            place = place.setdefault(step, {})
        if value:
            place[path[-1]] = value
        else:
            place.pop(path[-1], None)
        if index is not None:
            if held is not None:
                index[held].discard(profile_id)
            if value:
                index[value].add(profile_id)


def _searchable(document: Document, key: str) -> set[str]:
    if key == "_profileId":
        return {document["ProfileId"]}
    if key == "_fullName":
        return {" ".join(document[n] for n in ("FirstName", "MiddleName", "LastName") if n in document)}
    return {document[name] for name in _SEARCH_KEYS[key] if name in document}


def flattened(document: Document) -> dict[Path, str]:
    """A profile as Create- and UpdateProfile take it, by path."""
    found: dict[Path, str] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            found |= {(name, inner): text for inner, text in value.items()}
        else:
            found[(name,)] = value
    return found
