"""Pruning through the gateway, where the store is its own (writer queue, SQLite): one `sessions.delete` for each stale run.

Not `sessions cleanup --enforce`: that also applies OpenClaw's own age and its cap of 500 entries, and takes sessions nobody asked it to
take. No file of the sessions folder is written or moved here; what lies beside the store is left to the gateway. Called by prune-sessions.
"""

import time
from collections import Counter
from dataclasses import replace

from mmtools.errors import TryLater
from mmtools.ops import foreign
from mmtools.ops.leftovers import Needed
from mmtools.ops.openclaw import Agent
from mmtools.ops.openclaw_program import LIMIT_S, Deleted, NoReply, Program, Row
from mmtools.ops.pruning import Done, Gone, Rules, Survey, is_unused, survey, trusted
from mmtools.ops.stale import Judge, Verdict
from mmtools.ops.standing import Era
from mmtools.ops.swapping import opened
from mmtools.ops.trash import Manifest, Stage, Trash

BUDGET_S = 600.0
"""For one run; the command takes seconds for each session. What is left over is counted, and taken by the next run."""
FRESH_S = 60.0
"""So old may be what is known of a session that is deleted; then all are looked at again."""
MOST_FAILURES = 3
"""In a row; then the gateway is left in peace."""


class Deleter:
    """The sessions of one agent behind its gateway. trash: keeps the store as it was and the keys, so that entries can be put back."""

    def __init__(self, *, agent: Agent, era: Era, program: Program, trash: Trash, rules: Rules, budget_s: float = BUDGET_S) -> None:
        self._agent = agent
        self._in_file = era is not Era.SQLITE
        self._program = program
        self._trash = trash
        self._rules = rules
        self._budget_s = budget_s
        self._judge = Judge(agent=agent.id, now_ms=rules.now_ms, older_than_ms=rules.older_than_ms)

    def look(self) -> Done:
        """Say what `prune` would ask for, and ask for nothing."""
        done = Done()
        done.count(self._survey(), went=self._rules.sessions)
        return done

    def prune(self, run: str) -> Done:
        """Delete, oldest first, until all is done or the time is over. Raises TryLater when the gateway deletes nothing."""
        done, found = Done(), self._survey()
        done.count(found, went=self._rules.sessions)
        if not done.gone:
            return done
        manifest = self._keep(run, found)
        asked, why = self._delete(found)
        there = {gone.key for gone in self._survey(after=len(asked)).gone}
        done.keys = [key for key in asked if key not in there]
        done.gone, done.left = len(done.keys), found.left + len(found.gone) - len(done.keys)
        if manifest is not None:
            if done.keys:
                self._trash.write(replace(manifest, stage=Stage.MOVED, entries=tuple(done.keys)))
                done.trash = str(self._trash.folder / run)
            else:
                self._trash.drop(run)
        if not done.keys and why:
            raise TryLater(f"agent {self._agent.id}: the gateway deleted none of {len(found.gone)} sessions: {why}; run again later")
        return done

    def _survey(self, after: int = 0) -> Survey:
        """Look at the entries anew. after: how many the gateway has said to have deleted, for the words of a failure."""
        if self._in_file:
            if not after and is_unused(self._agent.store):
                return self._of_rows(())
            with trusted(self._agent.store, self._trash), opened(self._agent.store) as (source, _):
                return survey(source, str(self._agent.store), self._judge)
        rows = self._program.sessions(self._agent.id)
        if isinstance(rows, NoReply):
            raise TryLater(
                f"agent {self._agent.id}: the gateway does not list its sessions ({rows.why}); "
                f"{f'it has deleted {after} before that' if after else 'nothing was changed'}, run again later"
            )
        return self._of_rows(rows)

    def _of_rows(self, rows: tuple[Row, ...]) -> Survey:
        verdicts: Counter[Verdict] = Counter()
        needed, gone = Needed(), []
        for row in rows:
            verdict = self._judge.judge(row["key"], row)
            verdicts[verdict] += 1
            if verdict is Verdict.STALE:
                gone.append(Gone(key=row["key"], session=row["sessionId"], file="", updated_at=row["updatedAt"]))
            else:
                needed.add(row)
        return Survey(before=len(rows), verdicts=verdicts, gone=tuple(gone), needed=needed, spans=())

    def _keep(self, run: str, found: Survey) -> Manifest | None:
        """Have the present store in the trash: the gateway replaces it by renaming, so the file stays as it is. None for a database."""
        if not self._in_file:
            return None
        keys = tuple(gone.key for gone in found.gone)
        manifest = Manifest(run=run, stage=Stage.MOVING, home=str(self._trash.home), entries=keys, by_gateway=True)
        self._trash.write(manifest)
        with foreign.telling(self._agent.store, "nothing was deleted"):
            self._trash.keep_store(run, self._agent.store)
        return manifest

    def _delete(self, found: Survey) -> tuple[list[str], str]:
        """Return the keys that the gateway says are gone, and why the last failure was one."""
        began_s = looked_s = time.monotonic()
        failures, why = 0, ""
        deleted: list[str] = []
        stale = {gone.key: gone for gone in found.gone}
        for key in [gone.key for gone in sorted(found.gone, key=lambda gone: gone.updated_at)]:
            if failures >= MOST_FAILURES or time.monotonic() - began_s >= self._budget_s:
                break
            if time.monotonic() - looked_s > FRESH_S:
                found, looked_s = self._survey(after=len(deleted)), time.monotonic()
                stale = {gone.key: gone for gone in found.gone}
            if key not in stale:
                continue
            gone = stale[key]
            # A job's base key names the same transcript as its newest run, and the gateway does not look who else does.
            shared = found.needed.has(f"{gone.session}.jsonl") or (gone.file != "" and found.needed.has(gone.file))
            said = self._program.delete_session(key, LIMIT_S, keep_transcript=shared)
            if isinstance(said, Deleted):
                failures = 0
                deleted.append(key)
            else:
                failures, why = failures + 1, said.why
        return deleted, why
