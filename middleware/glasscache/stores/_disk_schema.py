"""What is in the file of a disk store: tables, and what is counted as it is written. Decides nothing.

All times are microseconds of Unix time: they must outlive the process, and the machine's own clock is the only one.
A row from the future was written before the clock was set back, and is not there. Tags are UTF-8.
"""

from __future__ import annotations

APPLICATION = 0x676C6173
"""`application_id`: what tells our files from others'."""
VERSION = 1
"""`user_version`: a new one for every change of what is below."""

SCHEMA = (
    # small rows, so that counting, sweeping and evicting read no bodies
    """CREATE TABLE entries (
      id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, number INTEGER NOT NULL,
      written INTEGER NOT NULL, dead INTEGER NOT NULL, used INTEGER NOT NULL
    )""",
    "CREATE INDEX entries_by_use ON entries (used)",
    "CREATE INDEX entries_by_end ON entries (dead)",
    "CREATE TABLE bodies (id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    """CREATE TABLE leases (
      key BLOB PRIMARY KEY, token INTEGER NOT NULL, machine TEXT NOT NULL, trace TEXT NOT NULL,
      since INTEGER NOT NULL, until INTEGER NOT NULL, number INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE queue (
      key BLOB NOT NULL, machine TEXT NOT NULL, place INTEGER NOT NULL, trace TEXT NOT NULL, since INTEGER NOT NULL,
      PRIMARY KEY (key, machine)
    ) WITHOUT ROWID""",
    "CREATE TABLE refusals (key BLOB PRIMARY KEY, since INTEGER NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE marks (tag BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX marks_by_number ON marks (number)",
    # what processes tell each other: the key of who was let go, or a message of _messages.py
    "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, wakes BLOB, told BLOB)",
    # `life`: whose numbers the entries carry: `birth`, or those of another tier (see `DiskStore.recall`)
    """CREATE TABLE state (
      id INTEGER PRIMARY KEY, birth TEXT NOT NULL, life TEXT NOT NULL DEFAULT '', token INTEGER NOT NULL DEFAULT 0,
      number INTEGER NOT NULL DEFAULT 0, everything INTEGER NOT NULL DEFAULT 0, floor INTEGER NOT NULL DEFAULT 0,
      tags INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, highest INTEGER NOT NULL DEFAULT 0
    )""",
    """CREATE TRIGGER entry_kept AFTER INSERT ON entries BEGIN
      UPDATE state SET bytes = bytes + new.size, highest = max(highest, new.number);
    END""",
    """CREATE TRIGGER entry_gone AFTER DELETE ON entries BEGIN
      DELETE FROM bodies WHERE id = old.id;
      UPDATE state SET bytes = bytes - old.size;
    END""",
    "CREATE TRIGGER tag_new AFTER INSERT ON marks BEGIN UPDATE state SET tags = tags + 1; END",
    "CREATE TRIGGER tag_gone AFTER DELETE ON marks BEGIN UPDATE state SET tags = tags - 1; END",
)
