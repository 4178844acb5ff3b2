"""A run, or two, as one HTML file that works offline.

evaluation   the page of one evaluation, or of two side by side
training     the page of a training
plots        plots as SVG
thumbnails   images, small enough for one file
html         what both pages are made of; web/ holds their HTML, styles and scripts
"""
