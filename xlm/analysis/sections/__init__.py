"""Functions from models and texts to figures beside their nulls, one for each analysis.

Each takes a ``Material`` and returns an ``Analysis``; it raises ``Lacks`` if the material lacks
something that it needs.
"""

from collections.abc import Callable, Mapping

from xlm.analysis.report import Analysis
from xlm.analysis.sections import alignments, in_context, languages, sentences, vocabulary, words
from xlm.analysis.sections.material import Lacks, Material

SECTIONS: Mapping[str, Callable[[Material], Analysis]] = {
    "retrieval": sentences.retrieved,
    "mining": sentences.mined,
    "word translation": words.translated,
    "word pairs": words.paired,
    "word alignment": alignments.aligned,
    "CKA": sentences.kernels,
    "spectra": vocabulary.matrices,
    "overlap": vocabulary.overlapping,
    "transfer": vocabulary.transferred,
    "language probe": languages.languages_told,
    "probes": in_context.labels_told,
    "anisotropy": languages.anisotropic,
    "separability": languages.separated,
    "WiC": in_context.senses_told,
    "SCWS": in_context.similar_in_context,
    "minimal pairs": in_context.grammatical,
    "TLM gap": sentences.translations_used,
}
"""Every analysis by the name that ``only`` takes, in the order of the report."""

CHECKS: Mapping[str, Callable[[Material], None]] = {
    "word translation": words.check_dictionaries,
    "spectra": vocabulary.check_parent_shape,
    "probes": in_context.check_labels,
    "WiC": in_context.check_senses,
}
"""Checks of the input of some analyses, made before the first of them begins."""

__all__ = ["CHECKS", "SECTIONS", "Lacks", "Material"]
