"""The script of letters, and the scripts that languages are written in."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from functools import lru_cache

from xlm.text.words import base_language

_LANGUAGES = {
    "Arabic": "ar arz azb ckb fa glk ks lrc mzn pnb ps sd ug ur",
    "Armenian": "hy hyw",
    "Bengali": "as bn bpy",
    "Cjk": "gan wuu yue zh",
    "Cyrillic": "av ba be bg bxr ce cv kk kv ky mhr mk mn mrj os ru rue sah sr tg tt tyv udm uk",
    "Devanagari": "awa bh bho doty dty gom hi ksh mai mr ne new pi sa",
    "Ethiopic": "am ti",
    "Georgian": "ka xmf",
    "Greek": "el pnt",
    "Gujarati": "gu",
    "Gurmukhi": "pa",
    "Hangul": "ko",
    "Hebrew": "he yi",
    "Kannada": "kn",
    "Khmer": "km",
    "Lao": "lo",
    "Latin": (
        "af an ast az br bs ca ceb co cs cy da de en eo es et eu fi fo fr fy ga gd gl ha hr ht hu "
        "ia id io is it jv la lb lt lv mg mi min ms mt nb nds nl nn no oc om pl pms pt qu rm ro "
        "sc scn sh simple sk sl sn so sq st su sv sw szl tk tl tn tr ts uz vec vi vo wa war xh yo "
        "zu"
    ),
    "Malayalam": "ml",
    "Myanmar": "my",
    "Oriya": "or",
    "Sinhala": "si",
    "Tamil": "ta",
    "Telugu": "te",
    "Thai": "th",
    "Tibetan": "bo dz",
}
_SCRIPTS = {
    language: frozenset([script])
    for script, languages in _LANGUAGES.items()
    for language in languages.split()
} | {"ja": frozenset(["Cjk", "Hiragana", "Katakana"])}


def scripts_of(language: str) -> frozenset[str] | None:
    """Return the scripts of a language such as ``zh-Hans``; None if the table has none."""
    return _SCRIPTS.get(base_language(language))


@lru_cache(maxsize=1 << 16)
def script_of(sign: str) -> str:
    """Return the script of a letter or of a script's own mark; "" for any other character.

    It is the first word of the character's name in Unicode: ``Latin``, ``Devanagari``, ``Cjk``.
    """
    if unicodedata.category(sign)[0] not in "LM":
        return ""
    script = unicodedata.name(sign, "").partition(" ")[0].partition("-")[0]
    return "" if script in ("COMBINING", "MODIFIER", "VARIATION") else script.capitalize()


def script_share(text: str, scripts: Collection[str]) -> float:
    """Return the share of the letters of ``text`` that are of ``scripts``; 0 without letters."""
    found = [script for script in map(script_of, text) if script]
    return sum(script in scripts for script in found) / len(found) if found else 0.0
