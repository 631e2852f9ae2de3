"""Text to speech: a task, its corpora, and audio as values."""
