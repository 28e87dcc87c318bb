"""The report of a run: one HTML page that needs no network, in English and Chinese at once."""
