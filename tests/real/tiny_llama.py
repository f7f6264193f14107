"""Make a tiny Llama with random weights and a tokenizer of its own: ``tiny_llama.py FOLDER``.

Runs in the environment of a real engine: it needs torch, transformers and tokenizers.
"""

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 32_000
LONGEST = 2048
SPECIAL = ("<s>", "</s>")
TEXT_BYTES = 16_000_000
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "[{{ message['role'] }}]\n{{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}"
)


def texts() -> Iterator[str]:
    """Yield some megabytes of text that every Python has: its own standard library."""
    size = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" not in path.parts and size < TEXT_BYTES:
            text = path.read_text("utf-8", errors="ignore")
            size += len(text)
            yield text


def save_tokenizer(folder: Path) -> int:
    """Train and save a byte-level BPE tokenizer; return the size of its vocabulary."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        texts(), vocab_size=VOCABULARY, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=LONGEST,
        chat_template=CHAT_TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def save_model(folder: Path, vocabulary: int) -> None:
    """Save two layers of random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=LONGEST,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    save_model(out, save_tokenizer(out))
