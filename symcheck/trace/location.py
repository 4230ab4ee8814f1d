"""Where in the candidate's code something happens."""

from __future__ import annotations

import functools
import sys
import sysconfig
from pathlib import Path
from types import CodeType, FrameType

import torch

_TORCH = str(Path(torch.__file__).parent) + "/"
_ROOM = str(Path(__file__).parent.parent) + "/"
_MACHINERY = (_ROOM + "trace/", _ROOM + "probe/", _TORCH + "optim/optimizer.py")


def here() -> str:
    """``file:line`` of the innermost frame of the candidate; torch's optimizers are candidates too."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if (name := _file(frame.f_code)) is not None:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@functools.cache
def _file(code: CodeType) -> str | None:
    """The file of a candidate's code, relative to where it was imported from; None for code of torch and symcheck."""
    name = code.co_filename
    if name.startswith(_MACHINERY) or (name.startswith(_TORCH) and not name.startswith(_TORCH + "optim/")):
        return None
    roots = [root.rstrip("/") + "/" for root in (*sys.path, sysconfig.get_path("purelib"), str(Path.cwd())) if root]
    longest = max((root for root in roots if name.startswith(root)), key=len, default="")
    return name.removeprefix(longest)
