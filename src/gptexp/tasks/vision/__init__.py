"""Captions of images and clips, a plugin: importing it adds task=caption and data=scenes, images and hub_images."""

from gptexp.tasks.vision import settings

__all__ = ["settings"]
