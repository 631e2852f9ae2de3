#!/bin/sh
# Collect the packages of gptexp for a machine without a network that has PyTorch, Lightning and transformers already.
#     sh benchmarks/wheels.sh wheels 3.12            here: Python's version there; 14 MB
#     pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=$PWD/site       there
# Packages that are installed there in another version stay: only what is missing is collected. W&B is left out; use
# logger=none or logger=csv. More packages, or other versions: name them after Python's version.
set -eu
FOLDER=${1:?folder for the wheels} PYTHON=${2:?version of Python on the other machine, such as 3.12}
shift 2
# Built here, because the index has no wheel of them; they hold no compiled code.
python3 -m pip wheel --quiet --no-deps --wheel-dir "$FOLDER" "antlr4-python3-runtime==4.9.*" rouge-score
python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version "$PYTHON" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$FOLDER" "hydra-core==1.3.*" "omegaconf==2.3.*" "datasets>=4" dill multiprocess nltk defusedxml "babel>=2.17" "$@"
ls -s --block-size=k "$FOLDER"
