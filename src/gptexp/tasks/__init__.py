"""One task a file: its layout, its answerer and its metrics. speech/ and vision/ are packages of tasks and data."""
