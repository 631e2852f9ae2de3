"""Name files and folders of weights that gptexp does not read, and say how to convert them.

This module imports no torch and unpickles nothing: a pickled checkpoint can run any code.
"""

from contextlib import suppress
from pathlib import Path

from gptexp.errors import UserError
from gptexp.files import is_lfs_pointer, read_json_object

ACCEPTED = (
    "Accepted: a run (its folder, its name or latest), a folder with config.json and model.safetensors, "
    "or the name of a model on the Hugging Face hub"
)
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
# Suffix of a file -> what it holds.
FILE_KINDS = {
    ".gguf": "weights of llama.cpp",
    ".ggml": "weights of llama.cpp",
    ".safetensors": "weights without the config.json that describes their model",
    **dict.fromkeys(PICKLES, "a pickled PyTorch checkpoint"),
    ".h5": "weights of Keras",
    ".keras": "weights of Keras",
    ".msgpack": "weights of Flax",
    ".onnx": "an ONNX graph",
    ".npz": "NumPy arrays",
    ".zip": "an archive",
    ".tar": "an archive",
    ".gz": "an archive",
    ".json": "a JSON file",
}
HUB_ADDRESS = "huggingface.co/"


def explain_foreign_weights(name: str) -> str | None:
    """Return what a name stands for that is neither a run nor a folder of weights; None if there is no such thing."""
    if HUB_ADDRESS in name:
        parts = name.partition(HUB_ADDRESS)[2].split("/")
        owned = 1 if len(parts) == 1 or parts[1] in ("", "tree", "blob", "resolve") else 2
        return f"{name}: is an address; give the name of the model, {'/'.join(parts[:owned])}"
    path = Path(name).expanduser()
    if not path.exists():
        return None
    reason = _explain_file(path) if path.is_file() else _explain_folder(path)
    return f"{name}: {reason}. {ACCEPTED}"


def check_weights(folder: Path, name: str) -> None:
    """Refuse a folder with a config.json whose weights gptexp does not read.

    Raises:
        UserError: it has no safetensors files, or pointers in their place.
    """
    files = sorted(folder.glob("model*.safetensors"))
    pointers = [file.name for file in files if is_lfs_pointer(file)]
    if pointers:
        raise UserError(
            f"{name}: {pointers[0]} is a pointer of Git LFS, not the file itself; type git lfs pull in that folder"
        )
    if not files:
        raise UserError(f"{name}: {_explain_folder(folder)}")


def _explain_file(path: Path) -> str:
    kind = FILE_KINDS.get(path.suffix.lower())
    if kind is None:
        return "is a file, not a folder with a model"
    reason = f"is by its name {kind}"
    folder = path.parent
    if kind == "an archive":
        return f"{reason}; unpack it, and give the folder"
    if (folder / "config.json").is_file():
        if any(folder.glob("model*.safetensors")):
            return f"is a file of the model in {folder}; give the folder"
        return f"{reason}. {_convert(folder, path.suffix.lower())}"
    if path.suffix.lower() == ".gguf":
        return f"{reason}. {_convert(folder, '.gguf', path.name)}"
    if path.suffix.lower() == ".safetensors":
        return f"{reason}; put that config.json beside it, and give the folder"
    return (
        f"{reason}. Load it with the program that wrote it, into a model of transformers, and write a folder by "
        f"model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER)"
    )


def _explain_folder(folder: Path) -> str:
    names = {path.name for path in folder.iterdir()}
    suffixes = {path.suffix.lower() for path in folder.iterdir() if path.is_file()}
    if "adapter_config.json" in names:
        return _explain_adapter(folder)
    if "config.json" in names:
        for suffix in (".bin", ".gguf", ".h5", ".msgpack", ".pt", ".pth", ".ckpt"):
            if suffix in suffixes:
                return (
                    f"has its weights as {_first_with(folder, suffix)}, not as model.safetensors. "
                    f"{_convert(folder, suffix)}"
                )
        return "has a config.json, but no model.safetensors"
    for file, program in (("model_index.json", "diffusers"), ("saved_model.pb", "TensorFlow")):
        if file in names:
            return f"is a model of {program} ({file}), which gptexp does not read"
    if "snapshots" in names and folder.name.startswith("models--"):
        return f"is the hub's cache; give the name, {folder.name[8:].replace('--', '/')}"
    for file, kind in (("config.yaml", "runs"), ("config.json", "models")):
        inside = sorted(path.parent.name for path in folder.glob(f"*/{file}"))
        if inside:
            return f"is a folder of {kind} ({', '.join(inside[:3])}); give one of them"
    for suffix in (".safetensors", *PICKLES, ".gguf"):
        if suffix in suffixes:
            return (
                f"has {_first_with(folder, suffix)}, but no config.json, which describes the model: copy it from "
                f"where the weights come from"
            )
    return "is a folder without weights" if names else "is an empty folder"


def _explain_adapter(folder: Path) -> str:
    base = None
    with suppress(ValueError):
        base = read_json_object(folder / "adapter_config.json").get("base_model_name_or_path")
    base = base or "its model"
    merge = (
        "from peft import AutoPeftModelForCausalLM as M; "
        f"M.from_pretrained({str(folder)!r}).merge_and_unload().save_pretrained('merged')"
    )
    return (
        f"is an adapter of PEFT for {base}, without the weights that it changes. Merge them first: "
        f'python -c "{merge}", and copy the tokenizer files of {base} to merged'
    )


def _convert(folder: Path, suffix: str, file: str | None = None) -> str:
    """Return the command that converts the weights of a folder by transformers."""
    source = repr(str(folder))
    if suffix == ".gguf":
        source += f", gguf_file={(file or _first_with(folder, suffix))!r}"
    elif suffix in (".h5", ".msgpack"):
        flag = "from_tf" if suffix == ".h5" else "from_flax"
        return f"Convert them with transformers 4: from_pretrained({source}, {flag}=True).save_pretrained('converted')"
    code = (
        "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
        f"[x.from_pretrained({source}).save_pretrained('converted') for x in (M, T)]"
    )
    return f'Convert them: python -c "{code}"'


def _first_with(folder: Path, suffix: str) -> str:
    return min(path.name for path in folder.iterdir() if path.suffix.lower() == suffix)
