"""The objectives of pretraining: one subclass of ``xlm.objective.Objective`` each."""

from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.causal import CausalLM, CausalTLM
from xlm.objectives.denoising import Denoising
from xlm.objectives.infilling import Infilling
from xlm.objectives.masked import MaskedLM
from xlm.objectives.next_sentence import NextSentence
from xlm.objectives.original import OriginalCausalLM, OriginalCausalTLM, OriginalMaskedLM
from xlm.objectives.translation import Translation

__all__ = [
    "BackTranslation", "CausalLM", "CausalTLM", "Denoising", "Infilling", "MaskedLM",
    "NextSentence", "OriginalCausalLM", "OriginalCausalTLM", "OriginalMaskedLM", "Translation",
]  # fmt: skip
