"""The nouns of goodnet. Nothing here imports another package of ours."""
