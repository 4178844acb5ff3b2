"""Serves the method through the OpenAI protocols: clients change their base URL.

`app.create_app` makes the ASGI application of a `P2R`, `server.serve` runs it. Prompts, crops and the reading
of replies are the pipeline's; nothing here scores, evaluates or trains.

A question passes `auth` (keys), `exchange` (accept, deadline, answer), `limiter` (queue), `http` (its body),
`request` with `structured` (the question), `fetching` (its image), and `response` or `responses` (the reply).
"""
