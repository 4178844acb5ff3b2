"""The page: a person gives an image, asks about a detail of it, and sees where the model looked.

It asks through `/v1/chat/completions`, as any client. `store` holds its uploads and their results in memory,
`routes` serves its files, takes uploads, and hands out regions and results, `static` is what a browser loads.
"""
