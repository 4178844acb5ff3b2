"""The page: a person gives a picture, asks, and watches the model look before it thinks.

`layout` is what is on it (Gradio), `asking` answers a question on it, `markup` draws what happened, `shelf`
keeps pictures and results in memory, `routes` takes and hands them out, `door` is the only way to Gradio.
"""
