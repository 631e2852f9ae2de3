"""Weights in the layouts of Hugging Face transformers."""
