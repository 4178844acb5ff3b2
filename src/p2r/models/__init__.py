"""Models: a transformers checkpoint here, any OpenAI-compatible server, or a vLLM that we start."""
