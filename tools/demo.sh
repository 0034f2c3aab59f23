#!/usr/bin/env bash
# Sets up, then runs the main job on the corpus that ships with the package: a shared vocabulary,
# binarized corpora, MLM+TLM pretraining, perplexity per language and a picture, all under runs/.

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
prepare_environment plot
cd "$root"

start=$SECONDS
xlm prepare --config recipes/sample/prepare.yaml
xlm pretrain --config recipes/sample/pretrain.yaml
xlm evaluate runs/sample --picture runs/sample/curves.png
echo "install: $install_seconds s, run: $((SECONDS - start)) s"

cat <<END

The curves: runs/sample/curves.png
Run next, after  source ${venv#"$root"/}/bin/activate
  xlm pretrain --help                                              every field of a recipe is a flag
  xlm pretrain --config recipes/sample/pretrain.yaml --steps 200   the same, shorter
  tools/test.sh                                                    the tests
END
