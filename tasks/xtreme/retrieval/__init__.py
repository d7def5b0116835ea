"""Retrieval: translations among sentences (`tatoeba`, `bucc2018`), found by an encoder that is only scored."""
