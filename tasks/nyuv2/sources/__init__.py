"""Real rooms: the files of NYUv2 in the three forms in which people have them, read as `Source`."""
