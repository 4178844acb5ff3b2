"""Figures: boxes and crops drawn for people."""
