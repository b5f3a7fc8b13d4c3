"""Patterns that the standard module does not know: fuzzy, recursive, overlapping."""

import regex

all(
    (
        regex.fullmatch(r"(?:sandbox){e<=1}", "sandbax") is not None,
        regex.fullmatch(r"\((?:[^()]|(?R))*\)", "(a(b)(c(d)))") is not None,
        regex.findall(r"\w{3}", "abcde", overlapped=True) == ["abc", "bcd", "cde"],
        regex.sub(r"\p{Lu}", "-", "aBcÄd") == "a-c-d",
        regex.match(r"(?<n>\d)+", "123").captures("n") == ["1", "2", "3"],
    )
)
