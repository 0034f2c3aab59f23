"""Text into words by well-kept packages, each imported when it is first used."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from xlm.errors import ConfigError

INDIC_LANGUAGES = frozenset("as bn gu hi kn ml mr ne or pa sa sd ta te".split())
"""Languages that indic-nlp-library normalizes and splits."""
_BY_LANGUAGE = {"zh": "rjieba", "th": "pythainlp", "ja": "fugashi"}

Splitter = Callable[[str], str]


def missing_package(setting: str, package: str, extra: str) -> ConfigError:
    """Return the error for a setting whose package is not installed."""
    return ConfigError(
        f"{setting} needs the package {package}, which is not installed: pip install "
        f"'xlm-pretrain[{extra}]'"
    )


def base_language(language: str) -> str:
    """Return ``zh`` of ``zh-Hans``."""
    return language.replace("_", "-").partition("-")[0].lower()


def splitter_name(words: str, language: str) -> str:
    """Return the splitter that ``auto`` means for ``language``; any other name unchanged."""
    base = base_language(language)
    if words != "auto":
        return words
    return _BY_LANGUAGE.get(base) or ("indic" if base in INDIC_LANGUAGES else "moses")


@lru_cache(maxsize=64)
def word_splitter(words: str, language: str) -> Splitter:
    """Return a splitter that separates the words of a normalized line by spaces, and does no more.

    Raises ConfigError, which names the extra, if the package is not installed.
    """
    base = base_language(language)
    name = splitter_name(words, language)
    makers: dict[str, Callable[[str], Splitter]] = {
        "moses": _moses, "indic": _indic, "rjieba": _rjieba, "pythainlp": _pythainlp,
        "fugashi": _fugashi,
    }  # fmt: skip
    if name not in makers:
        raise ConfigError(f"words is {name!r}: expected auto or one of {', '.join(makers)}")
    try:
        return makers[name](base)
    except ImportError as error:
        package = {"moses": "sacremoses", "indic": "indic-nlp-library"}.get(name, name)
        extra = "indic" if name == "indic" else "words"
        raise missing_package(f"words: {name}", package, extra) from error


def _moses(language: str) -> Splitter:
    from sacremoses import MosesTokenizer

    tokenizer = MosesTokenizer(language or "en")
    return lambda text: str(tokenizer.tokenize(text, return_str=True, escape=False))


def _indic(language: str) -> Splitter:
    from indicnlp.tokenize.indic_tokenize import trivial_tokenize

    return lambda text: " ".join(trivial_tokenize(text, language))


def _rjieba(language: str) -> Splitter:
    import rjieba

    return lambda text: " ".join(rjieba.cut(text))


def _pythainlp(language: str) -> Splitter:
    from pythainlp.tokenize import word_tokenize

    return lambda text: " ".join(word_tokenize(text, keep_whitespace=False))


def _fugashi(language: str) -> Splitter:
    import fugashi
    import unidic_lite  # noqa: F401  # the dictionary that fugashi finds by itself

    tagger = fugashi.Tagger()
    return lambda text: " ".join(word.surface for word in tagger(text))
