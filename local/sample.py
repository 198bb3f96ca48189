"""Sample players in the Cohort Modeler's schema, generated from a seed, and their contacts.

The rows are generated; the counts are the modeler's: 1,000 player vertices with 994 playerIds. ea_atrisk above 2 gives
wayne96, xortiz and msmith (two vertices, with 3 and 1), above 1 gives 53, above 0 gives 348 members from 349 vertices,
and ea_reputation below -75 gives 4.
"""

from __future__ import annotations

import csv
import json
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

SEED = 20261122
VERTICES = 1000
CONTACTS_FILE = "contacts.jsonl"

Player = dict[str, str | int]
Contact = dict[str, str]

#: The modeler's properties of a player, without the whole numbers.
TEXTS = {"playerId": "String", "status": "String", "stat_joinedDate": "Date", "stat_lastPlayed": "Date"}
ACTIONS = ("chat", "sharepii", "partyjoin", "randomheal", "endorse", "report")

# How many vertices have which ea_atrisk; the three with 3 are named below.
AT_RISK = {3: 3, 2: 50, 1: 296, 0: 651}
KNOWN = {
    "wayne96": ("Wayne", "Johnson", "Tank"),
    "xortiz": ("Tristan", "Nguyen", "Healer"),
    "msmith": ("Brett", "Ezell", "DPS"),
}
MOST_TOXIC = (-81, -79, -77, -76)

#: Every day of the modeler's data.
DAYS = [(date(2016, 8, 12) + timedelta(days=number)).isoformat() for number in range(1827)]
#: How many players of a thousand have which score; from the lowest score up.
POOLS = {
    name: [score for score, count in enumerate(counts, start=lowest) for _ in range(count)]
    for name, lowest, counts in (
        ("ea_duty", 0, (271, 212, 193, 132, 94, 60, 24, 11, 2, 1)),
        ("ea_mischief", -5, (1, 2, 15, 66, 176, 488, 164, 66, 17, 5)),
        ("ea_malice", 0, (673, 287, 37, 3)),
    )
}
RANGES = {
    "stat_totalSkinPurchases": (0, 30),
    "stat_totalCurrencyPurchases": (369, 1586),
    "stat_idleMinutes": (38, 720),
    "stat_marketingEmailClickThroughs": (1, 29),
    "stat_lastChatTimestamp": (1616278736, 1624872449),
    "stat_lastGameSession": (1617189450, 1625534546),
    "stat_lastGameSessionLength": (1, 356),
    "stat_longestGameSessionLength": (357, 920),
    "stat_shortestGameSessionLength": (0, 23),
    "stat_medianGameSessionLength": (24, 92),
}

FIRST_NAMES = """
Ada Amir Ana Ben Bo Carla Chen Dara Dev Eli Ema Femi Gil Hana Ida Ines Ivo Jana Jo Kai Kim Lars Lena Lin Mai Marek
Mia Milo Nadia Nils Noor Olu Omar Pia Raj Rosa Ruth Sami Sara Tariq Tess Uma Vera Will Yara Yuki Zoe
""".split()
LAST_NAMES = """
Abara Ahmed Alves Baker Bauer Becker Berg Chavez Cohen Costa Cruz Dahl Diaz Dubois Evans Fischer Flores Fox Garcia
Gray Haddad Hall Hansen Ito Jensen Kaya Khan Klein Kovac Kumar Lee Lopez Mbeki Meyer Moreau Mori Nakamura Novak
Okafor Olsen Park Patel Petrov Reyes Rossi Ryan Sato Silva Singh Stein Tanaka Turner Vance Vega Wagner Walsh Weber
Wong Young Zhou
""".split()
ROLES = ("Tank", "Healer", "DPS", "Support")

# Kinds of special contacts: each reject reason that a record can have, and each name that breaks a careless CSV
# writer.
KINDS: dict[str, Callable[[Contact], Contact | None]] = {
    "no_record": lambda contact: None,
    "no_email": lambda contact: _without(contact, "email"),
    "empty_email": lambda contact: contact | {"email": ""},
    "malformed_email": lambda contact: contact | {"email": contact["email"].replace("@", " at ")},
    "two_at_signs": lambda contact: contact | {"email": contact["email"].replace("@", "@@")},
    "consent_no": lambda contact: contact | {"emailConsent": "no"},
    "consent_silent": lambda contact: _without(contact, "emailConsent"),
    "bounce": lambda contact: contact | {"email": contact["email"].replace("success", "bounce")},
    "complaint": lambda contact: contact | {"email": contact["email"].replace("success", "complaint")},
    "comma": lambda contact: contact | {"firstName": f"{contact['firstName']}, Jr."},
    "quotes": lambda contact: contact | {"firstName": f'{contact["firstName"]} "Ace"'},
    "accents": lambda contact: contact | {"firstName": "Žofie-Ælfgifu", "lastName": "Ñúñez Łukasiewicz"},
    "emoji": lambda contact: contact | {"firstName": f"{contact['firstName']} 🐉"},
    "formula": lambda contact: contact | {"lastName": "=1+1"},
    "too_long": lambda contact: contact | {"lastName": "-".join([contact["lastName"]] * 40)},
    "line_break": lambda contact: contact | {"lastName": f"{contact['lastName']}\nthe Second"},
    "tab": lambda contact: contact | {"firstName": f"{contact['firstName']}\tX"},
}


def players(seed: int = SEED) -> list[Player]:
    """The thousand player vertices."""
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    ids = _player_ids(rng)
    at_risk = [score for score, count in AT_RISK.items() for _ in range(count)]
    others = at_risk[3:-5]
    others.remove(1)
    rng.shuffle(others)
    # The second vertices come last: five at no risk, so that they add no members; then msmith's, with a 1.
    owners = [*ids, *ids[3:8], "msmith"]
    risks = [3, 3, 3, *others, 0, 0, 0, 0, 0, 1]
    made: list[Player] = [
        {"~id": f"player-{number:04d}", "~label": "player", **_properties(rng, owner, risk)}
        for number, (owner, risk) in enumerate(zip(owners, risks, strict=True), start=1)
    ]
    for player, reputation in zip(rng.sample(made[len(KNOWN) : -1], len(MOST_TOXIC)), MOST_TOXIC, strict=True):
        player["ea_reputation"] = reputation
    rng.shuffle(made)
    return made


def big(n: int, seed: int = SEED) -> Iterator[Player]:
    """Yield n players with the same shares of every score and distinct playerIds; for measurements."""
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    scores, shares = list(AT_RISK), list(AT_RISK.values())
    for number in range(1, n + 1):
        risk = rng.choices(scores, shares)[0]
        yield {"~id": f"player-{number:08d}", "~label": "player", **_properties(rng, f"p{number:08d}", risk)}


def contacts(sample: Iterable[Player]) -> Iterator[Contact]:
    """The players' records in the contacts table; some players have none, some records are special."""
    ranked = sorted({(-int(player["ea_atrisk"]), str(player["playerId"])) for player in sample})
    kinds = list(KINDS)
    seen = set()
    for position, (_, player_id) in enumerate(ranked):
        if player_id in seen:
            continue
        seen.add(player_id)
        # Past the three, every third is odd, for three rounds of the kinds: one among those with a 2, two with a 1.
        turn, rest = divmod(position - len(KNOWN), 3)
        kind = kinds[turn % len(kinds)] if rest == 0 and 0 <= turn < 3 * len(kinds) else "ordinary"
        record = contact(player_id, kind)
        if record is not None:
            yield record


def contact(player_id: str, kind: str = "ordinary") -> Contact | None:
    """One player's record, derived from the playerId alone; None for the kind that has no record.

    Addresses are labels of the SES mailbox simulator, so that mail sent by mistake reaches no real inbox:
    https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html
    """
    digest = zlib.crc32(player_id.encode())
    first, last, role = KNOWN.get(player_id) or (
        FIRST_NAMES[digest % len(FIRST_NAMES)],
        LAST_NAMES[digest // 97 % len(LAST_NAMES)],
        ROLES[digest // 7 % len(ROLES)],
    )
    ordinary = {
        "playerId": player_id,
        "email": f"success+{player_id}@simulator.amazonses.com",
        "favoriteRole": role,
        "firstName": first,
        "lastName": last,
        "emailConsent": "yes",
    }
    return KINDS[kind](ordinary) if kind in KINDS else ordinary


def typed_names(player: Player) -> list[str]:
    """The header of the file of players: names with Neptune's types."""
    return [name if name[0] == "~" else f"{name}:{TEXTS.get(name, 'Int')}" for name in player]


def count_beyond(sample: Iterable[Player], name: str, threshold: int, direction: str = "above") -> tuple[int, int]:
    """How many vertices are strictly beyond the threshold, and how many members they are."""
    sign = 1 if direction == "above" else -1
    beyond = [player["playerId"] for player in sample if sign * int(player[name]) > sign * threshold]
    return len(beyond), len(set(beyond))


def write(folder: Path, seed: int = SEED) -> None:
    """Write the seven CSV files, under the modeler's names, and the contacts, one JSON object per line."""
    folder.mkdir(parents=True, exist_ok=True)
    sample = players(seed)
    rng = random.Random(seed + 1)  # noqa: S311 - a sample, not a secret
    vertices = [player["~id"] for player in sample]
    campaigns = [f"campaign-{number:02d}" for number in range(1, 11)]
    actions = [f"action_{action}" for action in ACTIONS]

    def edges(
        kind: str, label: str, pairs: Iterable[tuple[str | int, str | int]], *names: str
    ) -> Iterator[list[str | int]]:
        for number, (start, end) in enumerate(pairs, start=1):
            yield [start, end, f"{kind}-{number:05d}", label, *(rng.randint(0, 9) for _ in names)]

    def pairs(
        starts: list[str | int] | list[str], ends: list[str | int] | list[str], n: int
    ) -> Iterator[tuple[str | int, str | int]]:
        return ((rng.choice(starts), rng.choice(ends)) for _ in range(n))

    _write_csv(folder / "user_vertices.csv", typed_names(sample[0]), (player.values() for player in sample))
    statistics = (
        "stat_totalEmailOpened",
        "stat_messagesSent",
        "stat_messagesDelivered",
        "stat_dailyActive",
        "stat_newPlayers",
    )
    _write_csv(
        folder / "campaign_vertices.csv",
        ["~id", "~label", "name:String", *(f"{name}:Int" for name in statistics)],
        ([name, "campaign", f"Sample {name}", *(rng.randint(1, 99) for _ in statistics)] for name in campaigns),
    )
    _write_csv(folder / "action_vertices.csv", ["~id", "~label"], ([action, "action"] for action in actions))
    ends = ["~from", "~to", "~id", "~label"]
    for kind, label, between, names in (
        ("interaction", "interaction_edge", pairs(vertices, vertices, 2000), actions),
        ("engagement", "action_edge", pairs(vertices, actions, 600), ["iterations"]),
        ("campaign", "campaign_edge", pairs(campaigns, vertices, 300), []),
        (
            "campaign_bidirectional",
            "campaign_edge",
            pairs(vertices, campaigns, 60),
            ["campaign_login", "campaign_emailOpened", "campaign_linkClicked"],
        ),
    ):
        header = [*ends, *(f"{name}:Int" for name in names)]
        _write_csv(folder / f"{kind}_edges.csv", header, edges(kind, label, between, *names))
    lines = (json.dumps(record, ensure_ascii=False) for record in contacts(sample))
    (folder / CONTACTS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _without(contact: Contact, name: str) -> Contact:
    return {key: value for key, value in contact.items() if key != name}


def _player_ids(rng: random.Random) -> list[str]:
    """As many different playerIds as there are members, the three known ones first."""
    ids = dict.fromkeys(KNOWN)
    while len(ids) < VERTICES - 6:
        first, last = rng.choice(FIRST_NAMES).lower(), rng.choice(LAST_NAMES).lower()
        ids.setdefault(rng.choice((f"{first}{rng.randint(2, 99)}", f"{first[0]}{last}", f"{last}{first}")))
    return list(ids)


def _properties(rng: random.Random, player_id: str, risk: int) -> Player:
    """A player's properties, in the modeler's ranges and about its shares."""
    # random() alone, as `big` makes a million of these: randint and choices take five times as long
    draw = rng.random
    joined = int(draw() * 1800)
    return {
        "playerId": player_id,
        "status": "Inactive" if draw() < 0.015 else "Active",
        "stat_joinedDate": DAYS[joined],
        "stat_lastPlayed": DAYS[joined + int(draw() * (len(DAYS) - joined))],
        "ea_reputation": max(-74, min(72, round(rng.gauss(0, 25)))),
        "ea_altruism": min(35, int(rng.expovariate(1 / 7))),
        **{name: pool[int(draw() * len(pool))] for name, pool in POOLS.items()},
        "ea_atrisk": risk,
        **{name: low + int(draw() * (high - low + 1)) for name, (low, high) in RANGES.items()},
    }


def _write_csv(path: Path, header: list[str], rows: Iterable[Iterable[str | int]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
