#!/usr/bin/env bash
# Sets up, then runs the main job on the corpus that ships with the package: a shared vocabulary,
# binarized corpora, MLM+TLM pretraining, perplexity per language and a picture, all in a folder; at the
# end a masked sentence of each language, filled in before and after training, a search from English
# into Nepali, and a line that a causal model writes.
#
#   tools/demo.sh [FOLDER]   default: runs/sample; a run found there is gone on with

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
prepare_environment plot
cd "$root"

folder=${1:-runs/sample}
mkdir -p "$folder" 2>/dev/null || stop "cannot make the folder $folder (read-only or full disk?)"

# The model is so small that threads would mostly wait for each other, most of all on a busy machine.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

start=$SECONDS
xlm prepare --config recipes/sample/prepare.yaml --folder "$folder/data"
xlm pretrain --config recipes/sample/pretrain.yaml --data "$folder/data" --folder "$folder"
xlm evaluate "$folder" --picture "$folder/curves.png"
printf '\nHeld-out sentences with a word hidden, filled in by random weights and by the trained model:\n'
python tools/filled.py "$folder"
printf '\nHeld-out English sentences, and the Nepali ones whose vectors are nearest (rarely translations: the\n'
printf 'model is small, and has read 459 sentences of each language):\n'
xlm embed "$folder" xlm/sample/valid.ne.txt "$folder/valid.ne.npy"
head -n 3 xlm/sample/valid.en.txt > "$folder/queries.en.txt"
xlm search "$folder/valid.ne.npy" "$folder/queries.en.txt" --top 1 --output "$folder/nearest.txt"
paste -d '\n' "$folder/queries.en.txt" "$folder/nearest.txt"
printf '\nA causal model of the same shape, trained for 150 updates on the Nepali, and what it writes:\n'
xlm pretrain --config recipes/sample/writer.yaml --data "$folder/data" --folder "$folder/writer"
xlm generate "$folder/writer" --lines 1 --language ne --top_p 0.9 --seed 1
echo "install: $install_seconds s, run: $((SECONDS - start)) s"

cat <<END

The curves: $folder/curves.png
Run next, after  source ${venv#"$root"/}/bin/activate
  xlm pretrain --help                                     every field of a recipe is a flag
  xlm evaluate $folder                                    these figures again
  xlm score $folder FILE --sort true                      your lines, by how well it expects them
  xlm pretrain --config recipes/sample/pretrain.yaml --data $folder/data \\
      --folder $folder-short --steps 200                  the same, shorter
  tools/test.sh                                           the tests
END
