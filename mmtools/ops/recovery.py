"""The way back to what a snapshot shows: a plan of steps, and carrying it out, each step once. Called by `recover`.

Planned is by how things stand now, so a recovery that was killed goes on, and one that is repeated finds nothing to do; what was done is
written to `recoveries/<snapshot id>.json`. What cannot be proven is left alone and told. It starts runs of its own (`revive`), gives
tasks of dead workers back, prunes dead sessions, and says what became of restarts that were cut; it restarts no unit and restores no file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mmtools import __version__, outbox, restarts
from mmtools.errors import Misconfigured, Refused, TryLater
from mmtools.moments import Moment, iso, now_ms
from mmtools.ops import dead_sessions, inventory, mission_control, policy, processes, quoters, revive, snapshots, work, workers
from mmtools.ops.processes import Process
from mmtools.ops.quoters import Standing
from mmtools.ops.settings import Settings
from mmtools.ops.snapshots import Snapshot
from mmtools.restarts import Attempt, Owner
from mmtools.state import StateDir

SCHEMA = "mmtools.recovery/1"
MAX_AGE_S = 86_400.0
EARLY_S = 60.0
"""How far in the future a snapshot of another boot may seem to be: clocks are set after a boot."""
JOB: Final = "recover"


class Result(StrEnum):
    """What became of a step."""

    BEGUN = "begun"
    """It goes on, or was cut: the next recovery looks."""
    DONE = "done"
    FAILED = "failed"
    LATER = "later"
    NOT_KNOWN = "not known"
    LEFT = "left"
    """It was not tried, for the reason that is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a plan. key: "run:ID", "task:ID", "sessions", "attempt:ID", "unit:NAME". act: whether it will be done; else `why` not.

    look: whether a person should look when it is not done.
    """

    key: str
    what: str
    act: bool
    why: str = ""
    look: bool = True

    def document(self) -> dict[str, Any]:
        return {"key": self.key, "what": self.what, "act": self.act, "why": self.why}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A step and what became of it."""

    step: Step
    result: Result
    detail: str


def choose(state: StateDir, snapshot_id: str | None, now: Moment, max_age_s: float = MAX_AGE_S) -> tuple[Snapshot, list[str]]:
    """Return the snapshot to go back to, and those that are newer and damaged. None: the newest good one that is not from the future.

    Raises Refused for one that must not be used, and when there is none.
    """
    if snapshot_id is not None:
        problems = snapshots.verify(state, snapshot_id)
        if problems:
            raise Refused(
                f"snapshot {snapshot_id} is damaged: {'; '.join(problems)}; choose another one (`snapshot verify` names the good)"
            )
        chosen = snapshots.read(state, snapshot_id)
        _check(chosen, now, max_age_s)
        return chosen, []
    damaged = []
    early: list[str] = []
    for each in snapshots.youngest_first(state, now):
        if not snapshots.is_good(state, each):
            damaged.append(each)
            continue
        chosen = snapshots.read(state, each)
        if _is_early(chosen, now):
            early.append(each)
            continue
        _check(chosen, now, max_age_s)
        return chosen, damaged
    others = f"; damaged: {', '.join(damaged)}" * bool(damaged) + f"; from the future: {', '.join(early)}" * bool(early)
    raise Refused(f"there is no snapshot to go back to in {state.root}{others}; `snapshot` takes one")


def _check(snapshot: Snapshot, now: Moment, max_age_s: float) -> None:
    age_s = snapshots.age_s(snapshot, now)
    if snapshot.host != snapshots.host():
        raise Refused(f"snapshot {snapshot.id} was taken on another machine; recover there, or take one here")
    if _number(snapshot.version) > _number(__version__):
        raise Refused(f"snapshot {snapshot.id} was taken by mmtools {snapshot.version}, and this is {__version__}; use the newer one")
    if _is_early(snapshot, now):
        raise Refused(f"snapshot {snapshot.id} is from the future by {-age_s:.0f} s; set the clock right, or choose another one")
    if age_s > max_age_s:
        raise Refused(
            f"snapshot {snapshot.id} is {age_s / 3600:.1f} hours old, and what is older than {max_age_s / 3600:g} says nothing of now; "
            "look yourself, or give --max-age"
        )


def _is_early(snapshot: Snapshot, now: Moment) -> bool:
    same_boot = bool(now.boot_id) and now.boot_id == snapshot.when.boot_id
    return snapshots.age_s(snapshot, now) < (-1.0 if same_boot else -EARLY_S)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


# the plan


def plan(
    state: StateDir, settings: Settings, snapshot: Snapshot, *, now: Moment, max_age_s: float = MAX_AGE_S, gateway_wait_s: float = 0.0
) -> list[Step]:
    """Return what is to be done, and what is left alone and why. It asks, and changes nothing. gateway_wait_s: how long to wait for it."""
    return [
        *_runs(state, settings, snapshot, now, max_age_s),
        *_tasks(state, settings, snapshot, gateway_wait_s),
        *_dead_sessions(state, settings),  # behind the tasks: a session may show who works on one
        *_units(settings, snapshot),
        *_cut_attempts(state),  # last: a run that is being started now has its outcome by then
    ]


def gone(snapshot: Snapshot) -> list[Process]:
    """Return the processes of the snapshot that live no more: not by their numbers, which others may have by now."""
    then = [Process(**{**told, "argv": tuple(told["argv"])}) for told in snapshot.content("processes") or []]
    return [process for process in then if not processes.is_same(process)]


def _runs(state: StateDir, settings: Settings, snapshot: Snapshot, now: Moment, max_age_s: float) -> list[Step]:
    part = snapshot.parts.get("runs", {})
    if part.get("is") == "not known":
        return [Step(key="runs", what="start again what ran", act=False, why=f"the snapshot does not know: {part.get('why')}")]
    steps = []
    for run_id, told in (snapshot.content("runs") or {}).items():
        if told["standing"] not in (Standing.RUNNING, Standing.CRASHED):
            continue
        run = quoters.quoter(state, run_id)
        if run.standing in (Standing.RUNNING, Standing.FINISHED, Standing.STOPPED):
            continue
        why = revive.objection(state, run, Owner.RECOVER)
        if why is None and told["standing"] == Standing.CRASHED and not _ran_lately(state, run_id, snapshot, now, max_age_s):
            why = "it had crashed before the snapshot, and none of that time shows it running"
        why = why or policy.objection(state, settings, "recover-run")
        # systemd's and status-update's runs come back by themselves, and a halted one has told why it is halted
        theirs = run.standing is Standing.HALTED or run.owner in (Owner.SYSTEMD, Owner.STATUS_UPDATE, Owner.SMOKE_TEST)
        steps.append(Step(key=f"run:{run_id}", what=f"start run {run_id} again", act=why is None, why=why or "", look=not theirs))
    return steps


def _ran_lately(state: StateDir, run_id: str, snapshot: Snapshot, now: Moment, max_age_s: float) -> bool:
    """Return whether an older snapshot of this machine, not too old, shows the run running: it may have died just before the newest."""
    for each in reversed([older for older in snapshots.ids(state) if older < snapshot.id]):
        try:
            older = snapshots.read(state, each)
        except (Refused, Misconfigured, TryLater):
            continue
        if snapshots.age_s(older, now) > max_age_s:
            return False
        told = (older.content("runs") or {}).get(run_id)
        if older.host == snapshot.host and told is not None and told["standing"] == Standing.RUNNING:
            return True
    return False


def _tasks(state: StateDir, settings: Settings, snapshot: Snapshot, gateway_wait_s: float) -> list[Step]:
    part = snapshot.parts.get("tasks", {})
    if part.get("is") == "not known":
        return [Step(key="tasks", what="give tasks back", act=False, why=f"the snapshot does not know: {part.get('why')}", look=False)]
    then = {task["id"]: task for task in snapshot.content("tasks") or []}
    done = {key for key, told in _recorded(state, snapshot.id).items() if told["result"] == Result.DONE}
    then = {task_id: task for task_id, task in then.items() if f"task:{task_id}" not in done}
    if not then:
        return []
    if settings.mission_control is None:
        return [Step(key="tasks", what="give tasks back", act=False, why="ops.yaml names no board any more", look=False)]
    try:
        listed = mission_control.tasks(settings)
    except (TryLater, Refused, Misconfigured) as e:
        return [Step(key="tasks", what=f"give {len(then)} tasks back", act=False, why=str(e))]
    still = [task for task in listed if task.id in then and task.assigned_agent_id == then[task.id]["agent"]]
    if not still:
        return []
    against = policy.objection(state, settings, "recover-tasks")
    look = workers.Workers(settings, wait_s=gateway_wait_s)
    steps = []
    for task in still:
        alive = None if against else look.objection(task.assigned_agent_id)
        why = against or alive
        steps.append(Step(key=f"task:{task.id}", what=f"give task {task.id} back to the inbox", act=why is None, why=why or "", look=False))
    return steps


def _dead_sessions(state: StateDir, settings: Settings) -> list[Step]:
    try:
        if not work.installation(settings.openclaw).usual_agents():
            return []
        against = policy.objection(state, settings, "prune-sessions")
        waiting = 0 if against else dead_sessions.waiting(state, settings)
    except (TryLater, Refused, Misconfigured) as e:
        against, waiting = str(e), 0
    if against is None and not waiting:
        return []
    what = "prune dead sessions" if against else f"prune {waiting} dead sessions"
    return [Step(key="sessions", what=what, act=against is None, why=against or "", look=False)]


def _cut_attempts(state: StateDir) -> list[Step]:
    """Return the restarts and revivals that were begun, that nobody goes on with, and whose end nobody wrote down."""
    steps = []
    for attempt in restarts.attempts(state):
        ours = attempt.owner in (Owner.SAFE_RESTART, Owner.RECOVER)
        if attempt.result is None and ours and not _goes_on(state, attempt):
            steps.append(Step(key=f"attempt:{attempt.id}", what=f"say what became of the restart of {attempt.what}", act=True))
    return steps


def _goes_on(state: StateDir, attempt: Attempt) -> bool:
    if attempt.owner == Owner.SAFE_RESTART:
        handed_over = attempt.steps == ("handed over",) and Moment.now().since(attempt.at) <= restarts.TAKEN_UP_WITHIN_S
        return handed_over or state.is_locked("safe-restart")
    return state.is_locked(f"revive/{attempt.what.removeprefix('run:')}")


def _units(settings: Settings, snapshot: Snapshot) -> list[Step]:
    """Return the units that were active then and are not now: told of, and left to `safe-restart` and their own manager."""
    steps = []
    for manager in ("user", "system"):
        then = snapshot.content(f"units_{manager}") or {}
        active = [name for name, unit in then.items() if unit["ActiveState"] == "active"]
        if not active:
            continue
        now = inventory.units(settings, manager)
        if now.standing is inventory.Is.NOT_KNOWN:
            why = f"how it stands now is not known: {now.why}"
            steps += [Step(key=f"unit:{name}", what=f"look at {name}", act=False, why=why) for name in active]
            continue
        for name in active:
            state_now = (now.content or {}).get(name, {}).get("ActiveState", "not there")
            if state_now not in ("active", "activating", "reloading"):
                why = f"it was active and is {state_now}; `safe-restart` or systemctl starts it"
                steps.append(Step(key=f"unit:{name}", what=f"look at {name}", act=False, why=why))
    return steps


# carrying it out


def carry_out(state: StateDir, settings: Settings, snapshot: Snapshot, steps: Sequence[Step], *, why: str) -> list[Ended]:
    """Do the steps, each written down before and after it, tell the chats what came of them, and return it. The caller holds the lock."""
    _settle(state, snapshot.id, {step.key for step in steps})
    ended = []
    for step in steps:
        if not step.act:
            ended.append(Ended(step=step, result=Result.LEFT, detail=step.why))
            continue
        _record(state, snapshot.id, step, Result.BEGUN, why)
        result, detail = _act(state, settings, step, why)
        _record(state, snapshot.id, step, result, detail)
        ended.append(Ended(step=step, result=result, detail=detail))
    _tell(state, snapshot.id, ended)
    return ended


def _act(state: StateDir, settings: Settings, step: Step, why: str) -> tuple[Result, str]:
    kind, _, name = step.key.partition(":")
    acts: Mapping[str, Callable[[], tuple[Result, str]]] = {
        "run": lambda: _revive(state, name, why),
        "task": lambda: _give_back(settings, name),
        "sessions": lambda: _prune(state, settings),
        "attempt": lambda: _explain(state, settings, name),
    }
    return acts[kind]()


def _revive(state: StateDir, run_id: str, why: str) -> tuple[Result, str]:
    try:
        result = revive.revive(state, run_id, Owner.RECOVER, why)
    except TryLater as e:
        return Result.LATER, str(e)
    if isinstance(result, revive.Revived):
        return Result.DONE, f"it runs {result.how}"
    return (Result.NOT_KNOWN if result.unknown else Result.FAILED), result.why


def _give_back(settings: Settings, task_id: str) -> tuple[Result, str]:
    try:
        moved = mission_control.to_inbox(settings, task_id)
    except mission_control.Unsure as e:
        return Result.NOT_KNOWN, str(e)
    except TryLater as e:
        return Result.LATER, str(e)
    except (Refused, Misconfigured) as e:
        return Result.FAILED, str(e)
    return Result.DONE, "" if moved else "it is not in progress any more"


def _prune(state: StateDir, settings: Settings) -> tuple[Result, str]:
    try:
        return Result.DONE, dead_sessions.prune(state, settings)
    except TryLater as e:
        return Result.LATER, str(e)
    except (Refused, Misconfigured) as e:
        return Result.LEFT, str(e)


def _explain(state: StateDir, settings: Settings, attempt_id: str) -> tuple[Result, str]:
    attempt = next(past for past in restarts.attempts(state) if past.id == attempt_id)
    kind, _, name = attempt.what.partition(":")
    if kind == "run":
        standing = quoters.quoter(state, name).standing
        detail = f"recover was cut off; the run is {standing}"
        restarts.outcome(state, attempt_id, "done" if standing is Standing.RUNNING else "cut", detail)
        return Result.DONE, detail
    found = [inventory.units(settings, manager).content or {} for manager in ("user", "system")]
    unit = next((units[name] for units in found if name in units), None)
    how = "how it stands is not known" if unit is None else f"it is {unit['ActiveState']} since {unit['ActiveEnterTimestamp'] or 'never'}"
    came = f"at the step {attempt.steps[-1]!r}" if attempt.steps else "before its first step"
    ordered = "it was ordered" if "watch" in attempt.steps else "it may be ordered" if "order" in attempt.steps else "nothing was ordered"
    detail = f"the restart was cut off {came}, {ordered}; {how}"
    restarts.outcome(state, attempt_id, "cut", detail)
    return Result.DONE, detail


# the record


def _file(snapshot_id: str) -> str:
    return f"recoveries/{snapshot_id}.json"


def _recorded(state: StateDir, snapshot_id: str) -> dict[str, Any]:
    body = state.read(_file(snapshot_id), schema=SCHEMA)
    return {} if body is None else dict(body["steps"])


def _record(state: StateDir, snapshot_id: str, step: Step, result: Result, detail: str) -> None:
    with state.edit(_file(snapshot_id), schema=SCHEMA) as body:
        body.setdefault("steps", {})[step.key] = {"what": step.what, "result": result.value, "detail": detail, "at": iso(now_ms())}


def _settle(state: StateDir, snapshot_id: str, planned: set[str]) -> None:
    """Call done what was begun or put off by a recovery before, and is found done now: nothing is planned for it any more.

    Where the runs or the tasks are not known now, nothing is found.
    """
    unknown = {f"{key.removesuffix('s')}:" for key in planned & {"runs", "tasks"}}
    found = {
        key
        for key, told in _recorded(state, snapshot_id).items()
        if told["result"] in (Result.BEGUN, Result.LATER, Result.NOT_KNOWN) and not key.startswith(tuple(unknown))
    } - planned
    if not found:
        return
    with state.edit(_file(snapshot_id), schema=SCHEMA) as body:
        for key in found:
            body["steps"][key].update(result=Result.DONE.value, detail="found done", at=iso(now_ms()))


def _tell(state: StateDir, snapshot_id: str, ended: Sequence[Ended]) -> None:
    """Raise one alert for what was tried and not told yet; killed in the middle, the same is raised again, and sent once."""
    body = state.read(_file(snapshot_id), schema=SCHEMA)
    if body is None:
        return
    told: list[str] = body.get("told", [])
    news = {key: each for key, each in body["steps"].items() if _mark(key, each) not in told}
    if not news:
        return
    lines = [f"{each['what']}: {each['result']}" + (f", {each['detail']}" if each["detail"] else "") for each in news.values()]
    left = [f"left: {each.step.what}, {each.detail}" for each in ended if each.result is Result.LEFT and each.step.look]
    text = "\n".join([f"recover, from snapshot {snapshot_id}:", *lines, *left])
    outbox.raise_alert(state, f"recover:{snapshot_id}:{len(told)}", text, level=outbox.Level.INFO, source=JOB)
    with state.edit(_file(snapshot_id), schema=SCHEMA) as body:
        body["told"] = [*told, *(_mark(key, each) for key, each in news.items())]


def _mark(key: str, told: Mapping[str, Any]) -> str:
    """Return what a step is known by when it was told: a failure that is repeated is told once, and each success."""
    return f"{key} {told['result']}" + (f" {told['at']}" if told["result"] == Result.DONE else "")
