"""Free-form texts made comparable: what remains is what a person would call the same answer."""

from __future__ import annotations

import re
import unicodedata

# Signs that mean the same, in the spelling that everything here uses.
PLAIN_SIGNS = str.maketrans(
    {
        **dict.fromkeys("‘’‛′´`", "'"),
        **dict.fromkeys("“”„″«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("*\u200b\u200c\u200d\ufeff\u00ad"),
    }
)
_PREFIX = re.compile(r"(?:(?:so|thus|therefore),? )?(?:the )?(?:final )?answer(?: is|:| is:) (?=\S)")
# Signs that carry meaning (+ - # % $ @ & / = < >) stay, and so do those within numbers.
_SPACING_MARK = re.compile(r"[!?;()\[\]{}]|[,:](?!\d)")
_SILENT_MARK = re.compile(r"[\"']|\.(?!\d)")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
# "A 12" may be a code: an article is followed by a word.
_ARTICLE = re.compile(r"\b(?:an?|the) (?=[^\W\d_]{2})")


def normalize(text: str) -> str:
    """A text without case, prose punctuation, articles and a leading "the answer is".

    Compatibility characters are unified (NFKC), hyphens between words become spaces, white space becomes
    single spaces. Never empty unless the text is.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).translate(PLAIN_SIGNS).casefold().split())
    bare = _SILENT_MARK.sub("", _SPACING_MARK.sub(" ", _HYPHEN.sub(" ", _PREFIX.sub("", plain, count=1))))
    return _ARTICLE.sub("", " ".join(bare.split())) or plain


def same_text(gold: str, answer: str) -> bool:
    """Whether two texts are equal after normalization."""
    if len(answer) > 20 * len(gold) + 1_000:  # not worth the work; no normalization shortens that much
        return False
    return normalize(gold) == normalize(answer)
