"""perceive-to-reason: answers questions about details in high-resolution pictures.

A perceiver looks at the whole picture and lists the boxes of the evidence; the boxes are cropped at full
resolution; a reasoner answers from the annotated picture and the crops (P2R, arXiv 2607.01191).
"""

__version__ = "0.1.0"
