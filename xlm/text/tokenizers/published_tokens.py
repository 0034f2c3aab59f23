"""Tokens of languages in published tokenizers: mBART's, M2M-100's and NLLB's."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PATTERNS = (
    re.compile(r"([a-z]{2,3})_[A-Z]{2}"),  # mBART: en_XX is called en
    re.compile(r"__([a-z]{2,3})__"),  # M2M-100: __en__
    re.compile(r"([a-z]{3}_[A-Z][a-z]{3})"),  # NLLB: eng_Latn
)

MBART = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT "
    "lv_LV my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"
).split()
"""The tokens of mBART-25, in the order of their ids (Liu et al. 2020)."""
MBART_50 = [
    *MBART,
    *(
        "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF "
        "pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"
    ).split(),
]
"""Those of mBART-50 (Tang et al. 2020)."""

M2M_100 = [
    f"__{name}__"
    for name in (
        "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl "
        "gu ha he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml "
        "mn mr ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th "
        "tl tn tr uk ur uz vi wo xh yi yo zh zu"
    ).split()
]
"""Those of M2M-100 (Fan et al. 2021)."""


def language_of(piece: str) -> str | None:
    """Return the language that a published token is of, None for another token.

    mBART's names lose the country: it has one of each language.
    """
    found = (pattern.fullmatch(piece) for pattern in _PATTERNS)
    return next((match[1] for match in found if match), None)


def published_tokens(pieces: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the ids of the tokens of languages among special tokens, by language."""
    named = ((language_of(piece), at) for piece, at in pieces)
    found = sorted((at, name) for name, at in named if name is not None)
    return {name: at for at, name in found}
