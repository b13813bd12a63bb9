"""A chat model of a few thousand random weights, built on the spot, for tests without a network.

It is a Llama with a byte-level vocabulary, so it can write any UTF-8 text, in any script, one byte
a token: what a grammar allows it can say. What it says means nothing.

    python -m tests.tiny_model FOLDER
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
MAX_LENGTH = 4096  # tokens, which are bytes here


def build_tokenizer(chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """One token a byte, three special tokens, no merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL.values(), *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, **SPECIAL
    )
    fast.chat_template = chat_template
    return fast


def build(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> Path:
    """Write model and tokenizer into `folder`, which is returned; the same weights every time."""
    tokenizer = build_tokenizer(chat_template)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    _prefer_short_strings(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def _prefer_short_strings(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Make a quotation mark likely after any text, and what JSON has to escape unlikely.

    All bytes alike would end a JSON string after 256 of them on average. The first coordinate of
    every embedding is 1, dwarfs the others through all layers, and so is a bias that the output
    layer can read.
    """
    likely = tokenizer('"').input_ids
    unlikely = tokenizer("\\\x7f" + "".join(map(chr, range(0x20)))).input_ids
    # To a grammar these are text, "<pad>"; but they are left out of what is decoded.
    unlikely += [tokenizer.bos_token_id, tokenizer.pad_token_id]
    model.model.embed_tokens.weight[:, 0] = 1.0
    model.lm_head.weight[:, 0] = 0.0
    model.lm_head.weight[likely, 0] = 0.5
    model.lm_head.weight[unlikely, 0] = -2.0


if __name__ == "__main__":
    build(Path(sys.argv[1]))
