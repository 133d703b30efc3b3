"""Kills and errors at every write of a run: whatever happened, starting again ends as if nothing had."""
Play = Callable[[Runner], Outcome]
Record = dict[str, Any]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    with runner_of_the_game(tmp_path, monkeypatch) as lent:
        yield lent


@dataclass(frozen=True, slots=True)
class Ended:
    """What a run that went to its end has left."""

    document: Record
    told: list[Record]
    trades: bytes
    latches: int


def left_by(runner: Runner, document: Record) -> Ended:
    return Ended(document, runner.told(), runner.bytes_of("trades.jsonl"), len(runner.switch.latches()))


def to_the_end(runner: Runner, play: Play) -> Ended:
    """Start again after a fault; a run whose end was already written down is left alone."""
    try:
        document = play(runner).document
    except Refused as refused:
        assert f"run {RUN_ID} is finished" in str(refused)
        document = summary.document(session.fold_of(runner.state, RUN_ID))
    return left_by(runner, document)


def assert_is_whole(runner: Runner, expected: Ended, play: Play) -> None:
    """Started again, the run ends as one that nothing ever happened to."""
    ended = to_the_end(runner, play)
    assert ended.told == expected.told
    assert ended == expected
    assert runner.live_state()["status"] == "finished"
    assert [line["ledger_sha256"] for line in runner.history()] == [expected.document["ledger_sha256"]]


def as_it_comes(runner: Runner) -> Outcome:
    return runner.start()


def with_people(runner: Runner) -> Outcome:
    return runner.start_with_people()


def through_a_halt_by_hand(runner: Runner) -> Outcome:
    # Between two frames of one instant nothing is due: whenever it is repeated, the latch comes at the same frame.
    return through_halts(runner, {2: latch_once(runner)})


PLAYS: dict[str, tuple[Play, Record]] = {
    "as it comes": (Runner.start, {}),
    "with people": (Runner.start_with_people, {}),
    "halts by a limit": (through_halts, {"max_drawdown": 0.03}),
}


# --- kills and errors at every write


def survive(runner: Runner, name: str, kind: Kind) -> None:
    play, limits = PLAYS[name]
    runner = runner.with_params(**limits)
    expected = left_by(runner, play(runner).document)
    assert expected.document["status"] == "finished"
    runner.forget()
    hit: set[str] = set()
    for outcome in every_fault(kind, lambda: play(runner) and 0):
        assert outcome.signal == (signal.SIGKILL if outcome.reached else None), outcome.stderr
        assert_is_whole(runner, expected, play)
        runner.forget()
        hit.add(str(outcome.at).partition("(")[0])
    assert {"write", "fsync", "replace"} <= hit


@pytest.mark.parametrize("name", ["as it comes", "with people"])
def test_a_kill_within_any_write_is_as_if_nothing_had_happened(runner: Runner, name: str) -> None:
    survive(runner, name, "kill-half")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
@pytest.mark.parametrize("name", PLAYS)
def test_a_kill_around_any_write_is_as_if_nothing_had_happened(runner: Runner, name: str, kind: Kind) -> None:
    survive(runner, name, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
def test_a_kill_around_any_write_of_a_halt_by_hand_ends_as_with_it_or_as_without(runner: Runner, kind: Kind) -> None:
    """Without, when it was cleared before the run had noticed it."""
    halted = left_by(runner, through_a_halt_by_hand(runner).document)
    runner.forget()
    undisturbed = left_by(runner, runner.start().document)
    runner.forget()
    endings = [halted.told, undisturbed.told]
    seen = []
    for outcome in every_fault(kind, lambda: through_a_halt_by_hand(runner) and 0):
        assert outcome.signal == (signal.SIGKILL if outcome.reached else None), outcome.stderr
        ended = to_the_end(runner, through_a_halt_by_hand)
        seen.append(endings.index(ended.told))
        assert ended.document == (halted, undisturbed)[seen[-1]].document
        assert ended.latches == 1
        runner.forget()
    assert set(seen) == {0, 1}


@pytest.mark.parametrize("seed", range(12))
def test_two_kills_in_a_row_are_as_if_nothing_had_happened(runner: Runner, seed: int) -> None:
    rng = random.Random(seed)
    play, limits = PLAYS[rng.choice(list(PLAYS))]
    runner = runner.with_params(**limits)
    expected = left_by(runner, play(runner).document)
    runner.forget()
    for _ in range(2):
        run_with_fault(rng.randrange(1, 60), rng.choice(KILLS), lambda: play(runner) and 0)
    assert_is_whole(runner, expected, play)


def fail(root: Path, file: Path, kind: Kind, tmp_path: Path) -> None:
    yaml = tmp_path / "run.yaml"
    yaml.write_text(f"run_id: {RUN_ID}\nrecording: {file}\nparams: {json.dumps(PARAMS)}\n")
    runner = Runner(root, configs.load(yaml))
    expected = left_by(runner, runner.start().document)
    runner.forget()
    for outcome in every_fault(kind, lambda: cli.run(quote_run, ["--config", str(yaml), "--state", str(root)])):
        announced, *complaint = outcome.stderr.splitlines()
        assert announced == f"{RUN_ID}: recording feed of hail, on paper"
        assert outcome.status == (75 if outcome.reached else 0), outcome
        assert len(complaint) == outcome.reached, outcome.stderr
        assert_is_whole(runner, expected, as_it_comes)
        runner.forget()


def test_a_full_disk_at_any_write_is_one_line_and_75_and_loses_nothing(root: Path, game_file: Path, tmp_path: Path) -> None:
    fail(root, game_file, "enospc-half", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_of_the_disk_at_any_write_is_one_line_and_75_and_loses_nothing(
    root: Path, game_file: Path, tmp_path: Path, kind: Kind
) -> None:
    fail(root, game_file, kind, tmp_path)


