"""From bytes on disk to batches: corpora, tokenizers, the memory-mapped store, the order of examples."""
