"""Writes a table of dates in 25 languages and in ISO 8601, for the recipe iso-dates.

Run it: python examples/date_pairs.py dates.tsv. The formats are those of the Unicode CLDR; needs the package babel.
"""

import csv
import random
import sys
from datetime import date, timedelta

from babel.dates import format_date

LANGUAGES = (
    "ar", "cs", "da", "de", "el", "en", "es", "fi", "fr", "he", "hi", "hu", "id", "it", "ja", "ko", "nl", "pl", "pt", "ru",
    "sv", "tr", "uk", "vi", "zh",
)  # fmt: skip
FIRST, DAYS = date(1950, 1, 1), 365 * 100


def date_pairs(n, seed=0):
    """At most n different pairs of a date in a language and in ISO 8601; a date that is drawn twice counts once."""
    rng, found = random.Random(seed), {}
    for _ in range(n):
        day = FIRST + timedelta(days=rng.randrange(DAYS))
        found[format_date(day, rng.choice(("long", "full")), locale=rng.choice(LANGUAGES))] = day.isoformat()
    return list(found.items())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/date_pairs.py FILE.tsv")
    with open(sys.argv[1], "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([("source", "target"), *date_pairs(12_000)])
