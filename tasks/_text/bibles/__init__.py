"""Bibles in many languages, for every task on language: their layouts, what is known of each text, where they are."""
