"""Tracks: declarations, prepared folders and archives, and where the tracks of a name are found."""
