"""Saving and restoring runs, and loading weights of any origin."""
