"""Studies of the papers on a user's own text: ``xlm reproduce STUDY --folder FOLDER``.

    text --prepare once--> corpora --a run for each model--> result.json --summarize--> page, JSON

A study is resumable: a finished model is read again, an interrupted one is continued from its
newest checkpoint. Use as ``xlm.reproduce.reproduce(Reproduce(...))`` or ``xlm reproduce``.
"""

from __future__ import annotations

from xlm.reproduce.config import Reproduce
from xlm.reproduce.study import main, reproduce

__all__ = ["Reproduce", "main", "reproduce"]
