"""A knowledge service over Python's own documentation: the app that the demo puts glasscache in front of."""
