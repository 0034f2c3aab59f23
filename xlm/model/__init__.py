"""The network, its files, and its uses: fill, generate, score, embed, translate."""
