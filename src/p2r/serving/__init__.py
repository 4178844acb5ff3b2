"""The method behind the OpenAI protocol: any client asks by changing a base URL.

`app.create_app` makes the ASGI application for a `P2R`, `server.serve` runs it. Prompts, crops and the
reading of replies are the pipeline's; nothing here scores, evaluates or trains.
"""
