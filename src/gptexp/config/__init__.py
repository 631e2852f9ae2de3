"""The settings of a run: their schema, how they are composed and checked, plugins, and the id of a run. No torch."""
