"""Captions of images and clips: a task, its corpora, and images as values."""
