"""A decoder that cannot know which language to write is refused before it is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training import tiny
from xlm.errors import ConfigError
from xlm.objectives import BackTranslation, Denoising, Translation
from xlm.run.translation_checks import check_targets

MT = Translation(pairs=["en-hi", "hi-en"], tokens=64, length=16)
AE = Denoising(languages=["en", "hi"], tokens=64, length=16)
BT = BackTranslation(pairs=["en-hi"], tokens=64, length=16)


@pytest.mark.parametrize(
    ("objectives", "refused"),
    [({"mt": MT}, False), ({"ae": AE}, False), ({"ae": AE, "bt": BT}, True)],
)
def test_one_text_has_one_target_unless_the_model_knows_languages(
    tmp_path: Path, objectives: dict[str, object], refused: bool
) -> None:
    made = tiny.corpora(20)
    shape = {"num_decoder_layers": 1}
    without = tiny.model(language_embeddings=False, **shape)
    run = tiny.recipe(tmp_path, objectives=objectives, model=without)
    if refused:
        with pytest.raises(
            ConfigError, match="text in en is to be translated into en and in hi, but"
        ):
            check_targets(run, made)
    else:
        check_targets(run, made)
    knowing = tiny.model(language_embeddings=True, **shape)
    check_targets(tiny.recipe(tmp_path, objectives=objectives, model=knowing), made)
