"""Whether what a partition put into Koito is really there, in the shape that Koito can show.

Nothing in Koito's tables enforces that a name is shown once: a track without a primary alias is invisible, one with two
is shown twice, one without artists cannot be read.
"""

from dataclasses import dataclass, field

from bookpipe.targets.koito import tables
from bookpipe.targets.koito.database import Database
from bookpipe.targets.koito.journal import Journal
from bookpipe.targets.koito.server import Koito

SHOWN = 20  # findings listed by name; all are counted


@dataclass
class Findings:
    """What is wrong with a partition's rows. Nothing when all is well."""

    listens: int = 0  # that the journal says the partition inserted
    missing_listens: int = 0  # of these, those that are not there: moved or deleted since then, or lost
    entities: int = 0  # artists, releases and tracks that were looked at
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0


_PROBLEMS = (
    ("{kind} {{}} has {{}} primary names instead of one", ("artist", "release", "track"),
     "SELECT x.id, count(n.alias) FROM {given} k JOIN {kind}s x ON x.id = k.value "
     "LEFT JOIN {kind}_aliases n ON n.{kind}_id = x.id AND n.is_primary GROUP BY x.id HAVING count(n.alias) <> 1"),
    ("{kind} {{}} has {{}} artists", ("release", "track"),
     "SELECT x.id, count(l.artist_id) FROM {given} k JOIN {kind}s x ON x.id = k.value "
     "LEFT JOIN artist_{kind}s l ON l.{kind}_id = x.id GROUP BY x.id HAVING count(l.artist_id) = 0"),
    ("{kind} {{}} has {{}} primary artists", ("release", "track"),
     "SELECT l.{kind}_id, count(*) FROM {given} k JOIN artist_{kind}s l ON l.{kind}_id = k.value "
     "WHERE l.is_primary GROUP BY l.{kind}_id HAVING count(*) > 1"),
)  # fmt: skip


def audit_partition(koito: Koito, pipeline: str, partition: str) -> Findings:
    """Look at the listens of the partition's journal, their tracks, and the releases and artists of these."""
    findings = Findings()
    with koito.open(write=False) as database, database.reading():
        tables.check_schema(database)
        entries = Journal(database).entries(pipeline, partition)
        pairs = sorted({pair for entry in entries for pair in entry.listens})
        findings.listens = len(pairs)
        given = database.given(
            "listen", {"track": ("bigint", [t for t, _ in pairs]), "at": ("bigint", [at for _, at in pairs])}
        )
        ((there,),) = database.run(
            f"SELECT count(*) FROM {given.sql} k CROSS JOIN listens l "
            f"WHERE l.track_id = k.track AND l.listened_at = {database.instant('k.at')}",
            *given.values,
        )
        findings.missing_listens = findings.listens - there
        touched = _touched(database, [entry.id for entry in entries]) if entries else {}
        findings.entities = sum(map(len, touched.values()))
        for text, kinds, query in _PROBLEMS:
            for kind in kinds:
                ids = database.integers(kind, touched.get(kind, []))
                rows = database.run(query.format(kind=kind, given=ids.sql), *ids.values)
                findings.problem_count += len(rows)
                findings.problems += [text.format(kind=kind).format(*row) for row in sorted(rows)]
    del findings.problems[SHOWN:]
    return findings


def _touched(database: Database, loads: list[int]) -> dict[str, list[int]]:
    """Ids by kind: what the entries made, the tracks of their listens, and the releases and artists of these."""
    which = f"load_id IN ({', '.join(map(str, loads))})"
    tracks = f"SELECT track_id FROM {database.own('load_track')} WHERE {which}"
    queries = {
        "track": f"SELECT DISTINCT track_id FROM ({tracks}) t",
        "release": f"SELECT release_id FROM {database.own('load_release')} WHERE {which} "
        f"UNION SELECT release_id FROM tracks WHERE id IN ({tracks})",
        "artist": f"SELECT artist_id FROM {database.own('load_artist')} WHERE {which} "
        f"UNION SELECT artist_id FROM artist_tracks WHERE track_id IN ({tracks})",
    }
    return {kind: sorted(row[0] for row in database.run(query)) for kind, query in queries.items()}
