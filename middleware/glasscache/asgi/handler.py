"""What an app's handler may say about the answer it is producing: tags, lifetime, price, or that it must not be stored.

The words are kept with the load, which its task (and every thread or task that it starts) finds in its context.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from glasscache._climbing import Climbed
from glasscache._entry import sendable
from glasscache._inside import Chain, loading
from glasscache.errors import ConfigurationError
from glasscache.policy import Terms, is_amount


class Notes:
    """What the handler of one load has said, and what was read for its answer: what becomes of the words below."""

    is_silent: bool = True
    """Whether nothing was said so far."""
    is_stored: bool = True
    """Whether the answer may be stored, as far as its handler is concerned."""
    tags: tuple[str, ...] = ()
    ttl: float | None = None
    price: float = 0.0
    _below: Climbed | None = None

    def carry(self, tags: Iterable[str]) -> None:
        """A value that carries these was read for this answer."""
        self.is_silent = False
        self._below = below = self._below or Climbed()
        below.carry(tags)
        if below.is_full:
            self.is_stored = False

    def apply(self, terms: Terms, *, is_error: bool = False) -> Terms:
        """The terms with what was said so far. An error is kept for no longer than it would have been."""
        if self.ttl is None and not self.tags and not self.price and not self._below:
            return terms
        ttl = terms.ttl if self.ttl is None else terms.age + self.ttl  # freshness is told from age 0
        return replace(
            terms,
            ttl=min(ttl, terms.ttl) if is_error else ttl,
            tags=tuple(dict.fromkeys((*terms.tags, *self.tags, *(self._below or ())))),
            price=self.price,
        )


class AnswerNotes:
    """What a handler says of its answer; each method returns the notes, so that they chain."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def tag(self, *tags: str) -> AnswerNotes:
        """Let `cache.invalidate(tag=...)` remove this answer. ConfigurationError for what is no string."""
        if not all(isinstance(tag, str) for tag in tags):
            raise ConfigurationError(f"answer().tag(*{tags!r}): give strings, such as answer().tag('doc:7', 'doc:8')")
        self._notes.is_silent = False
        self._notes.tags += tuple(map(sendable, tags))
        return self

    def ttl(self, seconds: float) -> AnswerNotes:
        """Keep this answer fresh for `seconds`, whatever its rule says. ConfigurationError for what is no amount."""
        if not is_amount(seconds):
            raise ConfigurationError(f"answer().ttl({seconds!r}): give a finite number of seconds, 0 or more")
        self._notes.is_silent = False
        self._notes.ttl = seconds
        return self

    def no_store(self) -> AnswerNotes:
        """Do not store this answer. Said before the response starts, it is not shared with anybody either."""
        self._notes.is_silent = False
        self._notes.is_stored = False
        return self

    def cost(self, price: float) -> AnswerNotes:
        """What this answer cost beside time, in a currency of your own, the same for all answers. What that saved is
        summed up by `saved_price` of the stats and the metric `glasscache.saved.price`. ConfigurationError for what is
        no amount.
        """
        if not is_amount(price):
            raise ConfigurationError(f"answer().cost({price!r}): give a finite number, 0 or more")
        self._notes.is_silent = False
        self._notes.price = price
        return self


def answer() -> AnswerNotes:
    """The notes on the answer that is being produced here. Outside of a cached load they are read by nobody.

    Said in a function that is cached itself, they are missing when its value is there already: say them in the handler.
    Only its tags are those of every answer that is made from it, too.
    """
    for chain in reversed(loading.get()):
        if isinstance(chain.collector, Notes):
            return AnswerNotes(chain.collector)
    return AnswerNotes(Notes())


def open_notes(chain: Chain) -> Notes:
    """What will be said of this load's answer."""
    notes = chain.collector = Notes()
    return notes
