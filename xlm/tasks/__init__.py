"""The tasks of fine-tuning: one subclass of ``xlm.tasks.task.Task`` each."""

from xlm.tasks.answering import Answering
from xlm.tasks.classification import Classification
from xlm.tasks.parsing import Parsing
from xlm.tasks.ranking import Ranking
from xlm.tasks.regression import Regression
from xlm.tasks.tagging import Tagging

__all__ = ["Answering", "Classification", "Parsing", "Ranking", "Regression", "Tagging"]
