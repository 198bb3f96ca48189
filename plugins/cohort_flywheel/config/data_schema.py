"""The studio's own names in the graph and in the contacts table: the key `schema` of cohorts.yaml."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cohort_flywheel.config.attribute_paths import AttributeName, AttributePath


def _of_the_graph(name: str) -> str:
    if name.split() != name.split(" ") or not name.isprintable():
        raise ValueError(f"{name!r} has a blank at an end, two in a row, or an invisible character: correct the name")
    if name.startswith("~"):
        raise ValueError(
            f"{name!r} is a name of Neptune's load format, such as ~id, and not a property: name a property that holds"
            " the same value"
        )
    return name


#: A label, or the name of a property, of the graph. It is an argument of a step, so any text is safe.
GraphName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_of_the_graph)]
#: The key of a member in our own files, whatever the graph calls it.
PLAYER_ID = "playerId"
#: The columns of every segment file.
NAME_COLUMNS = ("FirstName", "LastName", "FavoriteRole")


class DataSchema(BaseModel):
    """Names in the graph and in the contacts table; the defaults are the Cohort Modeler's.

    `vertex_label` is the label of the players' vertices, `player_id` the property with the player's id, `contacts_key`
    the partition key of the contacts table, and the others are attributes of its records.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vertex_label: GraphName = "player"
    player_id: GraphName = PLAYER_ID
    contacts_key: AttributeName = PLAYER_ID
    address: AttributePath = "email"
    first_name: AttributePath = "firstName"
    last_name: AttributePath = "lastName"
    favorite_role: AttributePath = "favoriteRole"

    @cached_property
    def name_columns(self) -> dict[str, AttributePath]:
        """The attributes of the columns that every segment file has."""
        return dict(zip(NAME_COLUMNS, (self.first_name, self.last_name, self.favorite_role), strict=True))
