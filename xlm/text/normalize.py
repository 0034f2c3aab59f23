"""One normal form for every line of text, whichever file or data set it comes from."""

from __future__ import annotations

import re
import unicodedata

_UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_REPLACEMENT = {code: "\ufffd" for code in range(0xD800, 0xE000)}


def normalize(line: str) -> str:
    """``line`` in NFC, without control characters, its white space squeezed to single U+0020.

    Control characters (C0 with NUL, tab and CR; DEL; C1 with U+0085) and the separators U+2028 and
    U+2029 become a space; white space of every kind (no-break and ideographic spaces too) is
    squeezed to one space and stripped; byte order marks at the start are removed (files joined
    together leave them at the start of lines). Joiners (U+200C, U+200D), on which Indic spelling
    rests, are kept. A lone surrogate, which no encoder can take, becomes U+FFFD.
    Idempotent: ``normalize(normalize(line)) == normalize(line)``.
    """
    if _UNWANTED.search(line):
        line = _UNWANTED.sub(lambda match: match[0].translate(_REPLACEMENT), line)
        line = _UNWANTED.sub(" ", line)
    line = " ".join(unicodedata.normalize("NFC", line).split())
    while line.startswith("\ufeff"):
        line = line.lstrip("\ufeff ")
    return line
