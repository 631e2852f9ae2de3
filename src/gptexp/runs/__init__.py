"""Run folders: records, tables, trackers, model cards."""
