"""Import Lightning without packages that are optional for it and that a run does not need."""

from collections.abc import Iterator
from contextlib import contextmanager

# torchmetrics, which Lightning imports, imports these where they are installed: 1.2 of 2.8 seconds, and scipy 0.8.
OPTIONAL = ("transformers", "matplotlib", "scipy")


@contextmanager
def hide_optional_packages() -> Iterator[None]:
    """Let the modules that the block imports take transformers, matplotlib and scipy for missing.

    torchmetrics, if it is imported in the block, has no metrics and plots that need them, for the rest of the process.
    """
    from lightning_utilities.core import imports
    from lightning_utilities.core.imports import RequirementCache
    from packaging.requirements import Requirement

    check, find = RequirementCache._check_available, imports.package_available

    def check_other_packages(cache: RequirementCache) -> None:
        if cache.requirement and Requirement(cache.requirement).name in OPTIONAL:
            cache.available, cache.message = False, f"{cache.requirement} is not imported"
        else:
            check(cache)

    RequirementCache._check_available = check_other_packages  # type: ignore[assignment, method-assign]
    imports.package_available = lambda name: name not in OPTIONAL and find(name)  # type: ignore[assignment]
    try:
        yield
    finally:
        RequirementCache._check_available = check  # type: ignore[method-assign]
        imports.package_available = find
