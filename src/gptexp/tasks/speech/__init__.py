"""Text to speech, a plugin: importing it adds task=speak, data=spoken and data=recordings."""

from gptexp.tasks.speech import settings

__all__ = ["settings"]
