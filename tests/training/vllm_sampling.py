"""Runs in a Python that has vLLM: are the parameters of rollouts, given on stdin as a literal, what it takes?

First as TRL gives them to an engine in the training process, then as JSON on the way to a server.
"""

from __future__ import annotations

import ast
import json
import sys
from types import SimpleNamespace

from vllm import SamplingParams

try:
    from vllm.entrypoints.scale_out.token_in_token_out.protocol import GenerateRequest
except ImportError:  # before 0.31
    from vllm.entrypoints.serve.disagg.protocol import GenerateRequest

given = ast.literal_eval(sys.stdin.read())
model = SimpleNamespace(
    get_vocab_size=lambda: 300, max_logprobs=20, is_diffusion=False, logits_processors=None
)


def verified(parameters: SamplingParams) -> dict[int, float]:
    parameters.verify(model, None, None, None)
    return parameters.logit_bias


request = {"token_ids": [1], "sampling_params": given}
print(
    {
        "server": verified(GenerateRequest.model_validate_json(json.dumps(request)).sampling_params),
        "colocate": verified(SamplingParams(**given)),
    }
)
