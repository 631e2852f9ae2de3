"""The base class of the settings of every group."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gptexp.config.signature import Parameter

if TYPE_CHECKING:
    from gptexp.config.schema import Config


@dataclass
class GroupConfig:
    """Settings of one choice of a group, such as `data=files`.

    The base class of a group sets `config_group` and `passed`. Each choice is a subclass that sets `kind` and `target`,
    and that `register` makes known; or it is made from a YAML file with `_target_` (see target_settings.py).
    """

    config_group: ClassVar[str]  # the field of Config, and the folder under conf/
    affects_result: ClassVar[bool] = True  # False: its settings have no part in the run's id
    target: ClassVar[str] = ""  # MODULE:NAME of the implementation
    # Names of the arguments that the program passes to a `_target_`, in addition to its settings.
    passed: ClassVar[tuple[str, ...]] = ()
    # The parameters of a `_target_`; None for a class that sets `target`.
    parameters: ClassVar[tuple[Parameter, ...] | None] = None

    def resolve(self, config: "Config") -> None:
        """Fill in the settings that follow from others.

        Groups are resolved in the order in which Config declares them.
        """

    def check(self, config: "Config") -> None:
        """Refuse settings that contradict each other.

        Raises:
            UserError: two settings contradict each other.
        """
