"""Counts, sorts and sets a short text.

tries:  counting words, wrapping and normalising Unicode text
expect: ok
value:  ["glass", 4]
"""

import collections
import difflib
import re
import textwrap
import unicodedata

TEXT = """
A bell jar is a dome of glass. What stands under the glass can be seen from every
side, and nothing that stirs there moves a curtain in the room. Pump the air out and
an alarm clock under the glass falls silent, though its hammer still strikes. Lift
the glass, and the noise is back. Cafés kept cheese below one; chemists, a vacuum.
"""

words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", TEXT).casefold())
counts = collections.Counter(word for word in words if len(word) > 4)

print(textwrap.fill(" ".join(TEXT.split()), width=60))
print()
for word, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:3]:
    print(f"{word:<8}{'#' * count} {count}")

plain = "".join(
    letter for letter in unicodedata.normalize("NFKD", "Cafés") if not unicodedata.combining(letter)
)
print("folded:", plain, "- nearest word to 'glas':", difflib.get_close_matches("glas", words)[0])

list(counts.most_common(1)[0])
