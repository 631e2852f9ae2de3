import sys

import pytest

from gptexp.distributed.compiler import check_compiler
from gptexp.errors import UserError


@pytest.mark.parametrize("code", [0, 1])
def test_a_machine_that_cannot_compile_is_refused_with_the_reason(code, own_folder, monkeypatch):
    program = own_folder / "python"
    program.write_text(f"#!/bin/sh\necho No working compiler; exit {code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    if code == 0:
        check_compiler("cpu")
        return
    with pytest.raises(UserError, match=r"trainer\.compile=true: .*\(No working compiler\)"):
        check_compiler("cpu")
