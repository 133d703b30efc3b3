"""What must be in order before a unit is stopped, so that it comes up again. It reads; who is told no, its caller decides."""

from mmtools.ops.openclaw import Installation, Unreadable
from mmtools.ops.policy import Fact
from mmtools.ops.systemd import NotKnown, Unit


def config_parses(installation: Installation) -> Fact:
    """Whether a gateway could read its config; None when there is none where we look."""
    read = installation.read_config()
    if not isinstance(read, Unreadable):
        return Fact(True, f"{installation.config} parses")
    if read.absent:
        return Fact(None, f"{read.why}; name the gateway's config in ops.yaml (openclaw: config:)")
    return Fact(False, f"{read.why}; the gateway may not start with it, see `openclaw config validate`")


def is_loaded(unit: Unit | NotKnown) -> Fact:
    """Whether the service manager has the unit and would start it."""
    if isinstance(unit, NotKnown):
        return Fact(None, unit.why)
    if unit.load_state == "loaded":
        return Fact(True, f"{unit.name} is loaded")
    return Fact(False, f"{unit.name} is {unit.load_state}; look at `systemctl --{unit.manager.value} status {unit.name}`")
