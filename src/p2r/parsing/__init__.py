"""Readers of what models and people write. No text makes them raise.

- `perception`: the perceiver's text → `Perception`. `boxes` and `box_markup` collect the boxes,
  `lenient_json` reads JSON with its usual mistakes.
- `answers`: the reasoner's text → `Answer`. `statements` finds the option that a sentence asserts.
- `options`: options and instructions in the text of a question.
- `numbers`: a text → a quantity with its unit. `number_tokens` splits it, `expressions` evaluates it.
  `number_words` holds the words.
- `thinking`: thinking tags, special tokens and other markup.
"""

from p2r.parsing.answers import read_answer, read_option
from p2r.parsing.options import split_options
from p2r.parsing.perception import parse_perception
from p2r.parsing.thinking import split_thinking

__all__ = ["parse_perception", "read_answer", "read_option", "split_options", "split_thinking"]
