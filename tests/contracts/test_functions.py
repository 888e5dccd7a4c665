"""What a user of functions is promised, the same against an engine in this process and one behind HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
import warnings
from pathlib import Path

import psutil
import pytest

import dcengine
from dcengine.runner import live
from tests.engines import eventually, gone


def add(a: int, b: int = 0) -> int:
    return a + b


def hold(path: str) -> str:
    """Run until the file *path* exists."""
    while not Path(path).exists():
        time.sleep(0.01)
    return "released"


class Odd(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def refuse_odd(number: int) -> int:
    if number % 2:
        raise Odd(number)
    return number


# ---- submit --------------------------------------------------------------------------------


def test_submit_returns_what_the_function_returns(engine: str) -> None:
    assert dcengine.submit(add, 1, b=2).result(30) == 3


def test_a_closure_and_its_values_travel(engine: str) -> None:
    factor = 7
    assert dcengine.submit(lambda x: x * factor, 6).result(30) == 42


def test_an_error_comes_back_as_itself_with_the_remote_traceback(engine: str) -> None:
    handle = dcengine.submit(refuse_odd, 3)

    with pytest.raises(Odd) as caught:
        handle.result(30)

    assert caught.value.number == 3
    assert "refuse_odd" in str(caught.value.__cause__)
    assert isinstance(handle.exception(), Odd)
    assert handle.status().state == "failed"
    assert "Odd" in (handle.status().reason or "")


def test_an_exception_that_cannot_be_rebuilt_becomes_a_remote_error(engine: str) -> None:
    def raise_strange() -> None:
        class Strange(Exception):
            def __init__(self, a: int, b: int) -> None:
                super().__init__("one argument only")

        raise Strange(1, 2)

    with pytest.raises(dcengine.RemoteError, match="one argument only"):
        dcengine.submit(raise_strange).result(30)


def test_waiting_has_a_limit_and_the_job_goes_on(engine: str, tmp_path: Path) -> None:
    handle = dcengine.submit(hold, str(tmp_path / "go"))

    with pytest.raises(TimeoutError):
        handle.result(0.2)
    assert not handle.done()

    (tmp_path / "go").touch()
    assert handle.result(30) == "released"
    assert handle.done()


def test_a_handle_is_awaitable(engine: str) -> None:
    async def main() -> int:
        result: int = await dcengine.submit(add, 20, 22)
        return result

    assert asyncio.run(main()) == 42


def test_any_process_finds_a_job_by_its_id(engine: str) -> None:
    id = dcengine.submit(add, 5, 6).id

    assert dcengine.job(id).result(30) == 11


def test_an_unknown_job_is_not_found(engine: str) -> None:
    with pytest.raises(dcengine.NotFound):
        dcengine.job(10**9)
    with pytest.raises(dcengine.NotFound):
        dcengine.batch(10**9)


def test_retries_run_again_and_the_last_error_counts(engine: str, tmp_path: Path) -> None:
    def third_time_lucky(path: str) -> int:
        with open(path, "a") as file:
            file.write("x")
        runs = Path(path).stat().st_size
        if runs < 3:
            raise ValueError(f"run {runs}")
        return runs

    assert dcengine.submit(third_time_lucky, str(tmp_path / "a"), retries=2).result(30) == 3
    handle = dcengine.submit(third_time_lucky, str(tmp_path / "b"), retries=1)
    with pytest.raises(ValueError, match="run 2"):
        handle.result(30)
    assert handle.status().errors == 2


def test_the_same_key_gives_the_same_job(engine: str) -> None:
    first = dcengine.submit(add, 1, 1, key="one and one")
    second = dcengine.submit(add, 2, 2, key="one and one")

    assert first.id == second.id
    assert second.result(30) == 2


def test_a_higher_priority_runs_earlier(engine: str, tmp_path: Path) -> None:
    gate, log = tmp_path / "go", tmp_path / "log"

    def note(name: str) -> None:
        with log.open("a") as file:
            file.write(name)

    def unheard_of(path: str) -> None:
        hold(path)  # nothing is sent behind a function whose pace is not known

    holder = dcengine.submit(unheard_of, str(gate), tags="gpu")
    eventually(lambda: holder.status().task_state == "leased")
    late = [
        dcengine.submit(note, name, priority=priority, tags="gpu") for name, priority in [("c", 0), ("a", 9), ("b", 5)]
    ]
    gate.touch()
    for handle in late:
        handle.result(30)

    assert log.read_text() == "abc"


# ---- tags ----------------------------------------------------------------------------------


def test_tags_choose_the_worker(engine: str) -> None:
    handles = [dcengine.submit(add, n, tags="gpu>=2 & site==lab") for n in range(5)]
    for handle in handles:
        handle.result(30)

    assert {handle.status().worker for handle in handles} == {"w2"}


def test_a_job_that_nobody_matches_waits_and_says_what_is_missing(engine: str) -> None:
    with pytest.warns(UserWarning, match="gpu>=9"):
        handle = dcengine.submit(add, 1, tags="gpu>=9")

    assert "gpu>=9" in handle.why()
    assert not handle.done()
    assert handle.cancel()
    with pytest.raises(dcengine.JobCancelled):
        handle.result(30)


def test_a_job_that_nobody_matches_fails_if_asked_to(engine: str) -> None:
    handle = dcengine.submit(add, 1, tags="tpu", on_no_match="fail")

    with pytest.raises(dcengine.NoMatchingWorker, match="tpu"):
        handle.result(30)


def test_a_batch_that_nobody_matches_fails_if_asked_to(engine: str) -> None:
    batch = dcengine.map(add, range(3), tags="tpu", on_no_match="fail")

    assert batch.wait(30).failed == 3
    assert all(isinstance(error, dcengine.NoMatchingWorker) for error in batch.failures.values())


def test_explain_names_the_nearest_worker(engine: str) -> None:
    assert "w2" in dcengine.explain("gpu>=9 & site==lab")


def test_a_wrong_tag_expression_is_refused_before_anything_is_stored(engine: str) -> None:
    with pytest.raises(dcengine.InvalidTags, match="gpu"):
        dcengine.submit(add, 1, tags="gpu >>= 3")


# ---- what a function says ------------------------------------------------------------------


def test_printed_text_is_there_when_the_result_is(engine: str) -> None:
    def speak() -> None:
        for n in range(100):
            print("line", n)

    handle = dcengine.submit(speak)
    handle.result(30)

    assert str(handle.output) == "".join(f"line {n}\n" for n in range(100))


def test_printed_text_arrives_while_the_function_runs(engine: str, tmp_path: Path) -> None:
    def speak_and_hold(path: str) -> None:
        print("so far")
        hold(path)

    handle = dcengine.submit(speak_and_hold, str(tmp_path / "go"))

    eventually(lambda: str(handle.output) == "so far\n")
    assert not handle.done()
    (tmp_path / "go").touch()
    handle.result(30)


def test_a_job_can_be_followed_line_by_line_while_it_runs(engine: str, tmp_path: Path) -> None:
    def speak_hold_and_show(path: str) -> None:
        print("so far")
        hold(path)
        channel = live.current()
        assert channel is not None
        channel.show("display", b'{"data": {}}')
        print("at last", file=sys.stderr)

    handle = dcengine.submit(speak_hold_and_show, str(tmp_path / "go"))
    lines = handle.follow()

    first = next(lines)
    assert (first.kind, first.text) == ("stdout", "so far\n")
    assert not handle.done()
    (tmp_path / "go").touch()
    assert [(line.kind, line.text) for line in lines] == [("display", '{"data": {}}'), ("stderr", "at last\n")]
    assert [line.kind for line in dcengine.job(handle.id).follow()] == ["stdout", "display", "stderr"]
    assert str(handle.output) == "so far\nat last\n"


def test_logging_warnings_and_prints_come_live_in_order_and_again_later(interruptible: str, tmp_path: Path) -> None:
    def speak(path: str) -> None:
        import logging
        import warnings

        print("printed")
        logging.warning("before any configuration")
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", force=True)
        logging.info("configured")
        warnings.warn("careful", stacklevel=1)
        print("printed again")
        hold(path)

    handle = dcengine.submit(speak, str(tmp_path / "go"))
    lines = handle.follow()

    heard: list[str] = []
    while "printed again\n" not in heard:
        heard.append(next(lines).text)
    assert not handle.done()
    (tmp_path / "go").touch()
    assert list(lines) == []
    (warned,) = [text for text in heard if "careful" in text]
    configured, _, warning = warned.partition("UserWarning")
    assert "before any configuration" in configured
    assert "INFO configured" in configured
    assert "careful" in warning
    assert heard == ["printed\n", warned, "printed again\n"]
    assert [line.text for line in dcengine.job(handle.id).follow()] == heard


def test_a_handler_of_an_earlier_call_still_speaks_for_the_call_that_runs(interruptible: str) -> None:
    def set_up() -> None:
        import logging

        logger = logging.getLogger("kept")
        if not logger.handlers:
            logger.addHandler(logging.StreamHandler())
            logger.propagate = False
        logger.error("said")

    for handle in [dcengine.submit(set_up) for _ in range(3)]:
        handle.result(30)
        assert str(handle.output) == "said\n"


def test_what_programs_and_c_code_write_is_heard_while_the_function_runs(interruptible: str, tmp_path: Path) -> None:
    def speak(path: str) -> None:
        import ctypes
        import subprocess

        print("python")
        ctypes.CDLL(None).puts(b"c code")
        subprocess.run(["echo", "a program"])
        hold(path)

    handle = dcengine.submit(speak, str(tmp_path / "go"))

    eventually(lambda: str(handle.output) == "python\nc code\na program\n")
    assert not handle.done()
    (tmp_path / "go").touch()
    handle.result(30)


def test_a_bar_of_tqdm_is_the_jobs_progress(engine: str, tmp_path: Path) -> None:
    def work(path: str) -> None:
        from tqdm.auto import tqdm

        for number in tqdm(range(4), desc="images"):
            if number == 1:
                time.sleep(0.2)
            if number == 2:
                hold(path)

    handle = dcengine.submit(work, str(tmp_path / "go"))

    eventually(lambda: handle.progress.done)
    assert handle.progress.total == 4
    (tmp_path / "go").touch()
    handle.result(30)
    assert handle.progress == dcengine.Progress(4, 4, "images")
    assert str(handle.output) == ""


def test_what_a_function_displays_is_a_line_and_has_a_plain_form(engine: str) -> None:
    def show() -> None:
        from IPython.display import HTML, display

        print("before")
        display(HTML("<b>bold</b>"))
        print("after")

    handle = dcengine.submit(show)

    before, shown, after = handle.follow()
    assert (before.text, after.text) == ("before\n", "after\n")
    assert shown.kind == "display"
    assert json.loads(shown.text)["data"]["text/html"] == "<b>bold</b>"
    assert str(handle.output) == "before\n<IPython.core.display.HTML object>\nafter\n"


def test_of_much_output_head_and_tail_are_kept(engine: str) -> None:
    def chatter() -> None:
        line = "x" * 1022
        for number in range(17_000):
            print(number % 10, line, sep="")
        print("the end")

    handle = dcengine.submit(chatter)
    handle.result(60)

    text = str(handle.output)
    assert text.startswith("0xxx")
    assert text.endswith("xxx\nthe end\n")
    assert "bytes are left out here" in text
    assert (16 << 20) - 2000 < len(text) < (16 << 20) + 200


def test_following_tells_why_a_job_runs_again(engine: str, tmp_path: Path) -> None:
    def fail_once(path: str) -> None:
        print("trying")
        if not Path(path).exists():
            Path(path).touch()
            raise ValueError("not yet")

    handle = dcengine.submit(fail_once, str(tmp_path / "tried"), retries=1)

    assert [(line.kind, line.text) for line in handle.follow()] == [
        ("stdout", "trying\n"),
        ("note", "ValueError: not yet; it runs again"),
        ("stdout", "trying\n"),
    ]


def test_progress_arrives_while_the_function_runs(engine: str, tmp_path: Path) -> None:
    def work(path: str) -> None:
        dcengine.progress(3, 10, "reading")
        hold(path)

    handle = dcengine.submit(work, str(tmp_path / "go"))

    eventually(lambda: handle.progress.done)
    assert handle.progress == dcengine.Progress(3, 10, "reading")
    (tmp_path / "go").touch()
    handle.result(30)
    assert handle.progress == dcengine.Progress(3, 10, "reading")


def test_a_function_that_says_nothing_has_done_nothing_of_an_unknown_total(engine: str) -> None:
    assert dcengine.submit(add, 1).progress == dcengine.Progress(0, None, "")


def test_track_reports_each_item(engine: str) -> None:
    def work() -> int:
        return sum(dcengine.track(range(5)))

    handle = dcengine.submit(work)

    assert handle.result(30) == 10
    assert (handle.progress.done, handle.progress.total) == (5, 5)


# ---- interrupt, time-out, crash ------------------------------------------------------------


def test_cancel_interrupts_a_running_function(interruptible: str) -> None:
    handle = dcengine.submit(time.sleep, 600)
    eventually(lambda: handle.status().task_state == "leased")

    assert handle.cancel()

    with pytest.raises(dcengine.JobCancelled):
        handle.result(10)
    assert handle.status().state == "cancelled"
    assert not handle.cancel()


def test_interrupted_code_may_clean_up_and_return(interruptible: str, tmp_path: Path) -> None:
    def train(path: str) -> str:
        try:
            Path(path).touch()
            time.sleep(60)
        except KeyboardInterrupt:
            return "what was learned so far"
        return "everything"

    handle = dcengine.submit(train, str(tmp_path / "running"))
    eventually((tmp_path / "running").exists)
    handle.interrupt()

    assert handle.result(30) == "what was learned so far"


def test_an_interrupt_reaches_the_programs_that_the_code_waits_for(interruptible: str, tmp_path: Path) -> None:
    def wait_for_a_program(path: str) -> int:
        return os.system(f"touch {path}; exec sleep 60")

    handle = dcengine.submit(wait_for_a_program, str(tmp_path / "running"))
    eventually((tmp_path / "running").exists)
    handle.interrupt()

    assert handle.result(30) != 0


def test_an_interrupt_that_nobody_catches_is_the_error_and_no_retry_follows(interruptible: str, tmp_path: Path) -> None:
    def run(path: str) -> None:
        with Path(path).open("a") as file:
            file.write("x")
        time.sleep(60)

    handle = dcengine.submit(run, str(tmp_path / "runs"), retries=3)
    eventually((tmp_path / "runs").exists)
    handle.interrupt()

    assert isinstance(handle.exception(30), KeyboardInterrupt)
    assert (tmp_path / "runs").read_text() == "x"


def test_a_job_interrupted_at_whatever_moment_never_runs_to_its_end(interruptible: str) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for _ in range(20):
        handle = dcengine.submit(time.sleep, 60)
        time.sleep(moments.uniform(0, 0.01))
        handle.interrupt()
        assert isinstance(handle.exception(30), KeyboardInterrupt | dcengine.JobCancelled)


def test_killing_a_job_ends_its_process_at_once(interruptible: str, tmp_path: Path) -> None:
    def ignore_everything(path: str) -> None:
        Path(path).write_text(str(os.getpid()))
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass

    handle = dcengine.submit(ignore_everything, str(tmp_path / "pid"), retries=3)
    process = psutil.Process(
        int(str(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())))
    )
    handle.interrupt()
    handle.kill()

    assert isinstance(handle.exception(30), dcengine.JobCancelled)
    eventually(lambda: gone([process]))


def test_a_job_cancelled_at_whatever_moment_never_runs_to_its_end(interruptible: str) -> None:
    dice = random.Random(seed := random.randrange(10**6))
    print(f"seed {seed}")
    for _ in range(40):
        handle = dcengine.submit(time.sleep, 600) if dice.random() < 0.5 else dcengine.map(time.sleep, [600])[0]
        time.sleep(dice.choice([0, 0, dice.uniform(0, 0.005)]))  # what is random here is the moment
        handle.cancel()
        with pytest.raises(dcengine.JobCancelled):
            handle.result(20)


def test_a_time_out_ends_the_run_and_counts_as_an_error(interruptible: str) -> None:
    handle = dcengine.submit(time.sleep, 600, timeout=0.2)

    with pytest.raises(dcengine.TaskTimeout, match=r"0\.2 s"):
        handle.result(10)


def test_a_crash_hurts_only_its_own_job_and_is_named(interruptible: str) -> None:
    def crash() -> None:
        import ctypes

        ctypes.string_at(0)

    handle = dcengine.submit(crash)
    others = dcengine.map(add, range(200))

    with pytest.raises(dcengine.TaskCrashed, match="SIGSEGV"):
        handle.result(30)
    assert others.results(30) == list(range(200))


def test_a_submitter_may_forgive_no_crash(interruptible: str, tmp_path: Path) -> None:
    def crash(path: str) -> None:
        with Path(path).open("a") as file:
            file.write("x")
        os._exit(3)

    handle = dcengine.submit(crash, str(tmp_path / "runs"), crash_retries=0)

    with pytest.raises(dcengine.TaskCrashed, match="exit code 3"):
        handle.result(30)
    assert (tmp_path / "runs").read_text() == "x"


def test_leaving_the_interpreter_is_an_error_of_the_function(engine: str) -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        dcengine.submit(leave).result(30)
    assert dcengine.submit(add, 1, 1).result(30) == 2


# ---- map -----------------------------------------------------------------------------------


def test_map_gives_results_in_the_order_of_its_inputs(engine: str) -> None:
    batch = dcengine.map(add, range(5000), range(5000))

    assert len(batch) == 5000
    assert list(batch) == [2 * n for n in range(5000)]
    status = batch.status()
    assert (status.state, status.succeeded, status.failed) == ("succeeded", 5000, 0)


def test_map_stops_at_the_shortest_input_as_the_built_in_does(engine: str) -> None:
    assert dcengine.map(add, [1, 2, 3], [10, 20]).results(30) == [11, 22]


def test_a_map_over_nothing_is_done(engine: str) -> None:
    batch = dcengine.map(add, [])

    assert batch.results(5) == []
    assert batch.status().state == "succeeded"


def test_each_item_fails_by_itself(engine: str) -> None:
    batch = dcengine.map(refuse_odd, range(20))

    assert batch.wait(30).failed == 10
    assert sorted(batch.failures) == list(range(1, 20, 2))
    assert all(isinstance(error, Odd) and error.number == index for index, error in batch.failures.items())
    assert batch.status().succeeded == 10


def test_failed_items_are_told_with_their_reasons_and_no_more_than_asked_for(engine: str) -> None:
    batch = dcengine.map(refuse_odd, range(40))
    batch.wait(30)
    first, second = batch.failed_items(limit=2)

    assert (first.index, first.job, first.reason) == (1, batch[1].id, f"{__name__}.Odd: 1")
    assert second.index == 3
    assert len(batch.failed_items(100)) == 20
    assert dcengine.map(refuse_odd, []).failed_items() == []


def test_iteration_raises_at_the_item_that_failed_and_may_go_on(engine: str) -> None:
    results = iter(dcengine.map(refuse_odd, [0, 1, 2]))

    assert next(results) == 0
    with pytest.raises(Odd):
        next(results)
    assert next(results) == 2


def test_as_completed_yields_each_item_once_with_its_result(engine: str) -> None:
    ended = {handle.index: handle.result() for handle in dcengine.map(add, range(300)).as_completed(30)}

    assert ended == {n: n for n in range(300)}


def test_an_item_is_a_job_of_its_own(engine: str) -> None:
    batch = dcengine.map(refuse_odd, range(10))
    batch.wait(30)

    assert dcengine.job(batch[4].id).result(30) == 4
    assert dcengine.job(batch[4].id).status().state == "succeeded"
    assert dcengine.job(batch[4].id).status().batch == batch.id
    with pytest.raises(Odd):
        dcengine.job(batch[5].id).result(30)


def test_items_are_retried_by_themselves(engine: str, tmp_path: Path) -> None:
    def second_time(n: int, folder: str) -> int:
        mark = Path(folder, str(n))
        if n % 3 == 0 and not mark.exists():
            mark.touch()
            raise ValueError(n)
        return n

    batch = dcengine.map(second_time, range(30), [str(tmp_path)] * 30, retries=1)

    assert batch.results(30) == list(range(30))


def test_failed_items_can_be_run_again(engine: str, tmp_path: Path) -> None:
    def needs_file(n: int, path: str) -> int:
        if n >= 8 and not Path(path).exists():
            raise FileNotFoundError(path)
        return n

    batch = dcengine.map(needs_file, range(12), [str(tmp_path / "there")] * 12)
    assert batch.wait(30).failed == 4

    (tmp_path / "there").touch()
    batch.retry_failed()

    assert batch.results(30) == list(range(12))
    assert batch.status().failed == 0


def test_a_batch_can_be_cancelled_and_taken_up_again(interruptible: str, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    batch = dcengine.map(hold, [str(gate)] * 50)
    eventually(lambda: batch.status().running)

    batch.cancel()

    status = eventually(lambda: batch.status().is_final and batch.status())
    assert (status.state, status.cancelled) == ("cancelled", 50)  # type: ignore[attr-defined]
    gate.touch()
    batch.retry_failed()
    assert batch.results(30) == ["released"] * 50


def test_one_running_item_can_be_cancelled(interruptible: str, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    batch = dcengine.map(hold, [str(gate)] * 6)
    eventually(lambda: batch[0].status().task_state == "leased")

    batch[0].cancel()
    with pytest.raises(dcengine.JobCancelled):
        batch[0].result(30)
    batch[5].cancel()
    gate.touch()

    status = batch.wait(30)
    assert (status.succeeded, status.cancelled) == (4, 2)


def test_any_process_finds_a_batch_by_its_id(engine: str) -> None:
    batch = dcengine.map(add, range(100))

    assert dcengine.batch(batch.id).results(30) == list(range(100))


def test_a_batch_is_awaitable(engine: str) -> None:
    async def main() -> list[int]:
        results: list[int] = await dcengine.map(add, range(50))
        return results

    assert asyncio.run(main()) == list(range(50))


def test_credit_goes_to_the_contributor_of_the_worker_once_for_each_task(engine: str) -> None:
    before = sum(row.tasks for row in dcengine.leaderboard())
    dcengine.map(add, range(1000)).wait(30)
    dcengine.submit(add, 1).result(30)
    with pytest.raises(Odd):
        dcengine.submit(refuse_odd, 1).result(30)

    rows = dcengine.leaderboard()

    assert sum(row.tasks for row in rows) == before + 1001
    assert sum(row.share for row in rows) == pytest.approx(1)


def test_an_unknown_project_has_no_leaderboard(engine: str) -> None:
    with pytest.raises(dcengine.NotFound):
        dcengine.leaderboard("no such project")


# ---- what cannot travel --------------------------------------------------------------------


def test_an_argument_that_cannot_travel_is_named_with_its_type(engine: str) -> None:
    with pytest.raises(dcengine.NotPicklable, match=r"argument 2.*lock"):
        dcengine.submit(add, 1, threading.Lock())
    with pytest.raises(dcengine.NotPicklable, match=r"argument 'b'.*lock"):
        dcengine.submit(add, 1, b=threading.Lock())
    with pytest.raises(dcengine.NotPicklable, match=r"argument 1.*generator"):
        dcengine.submit(sum, (n for n in range(3)))


def test_a_value_inside_a_function_that_cannot_travel_is_named(engine: str) -> None:
    lock = threading.Lock()

    with pytest.raises(dcengine.NotPicklable, match="'lock'"):
        dcengine.submit(lambda: lock.locked())


def test_a_result_that_cannot_travel_is_an_error_of_that_job(engine: str) -> None:
    with pytest.raises(dcengine.NotPicklable, match="result"):
        dcengine.submit(threading.Lock).result(30)


@pytest.mark.parametrize("options", [{"retries": -1}, {"timeout": 0}, {"on_no_match": "explode"}, {"priority": 10**9}])
def test_an_impossible_option_is_refused(engine: str, options: dict[str, object]) -> None:
    with pytest.raises(dcengine.InvalidOption):
        dcengine.submit(add, 1, **options)  # type: ignore[arg-type]


def test_a_missing_package_is_named_with_the_worker(engine: str) -> None:
    def needs() -> None:
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401

    with pytest.raises(ImportError, match="no_such_package"):
        dcengine.submit(needs).result(30)


def test_no_warning_is_given_when_a_worker_matches(engine: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dcengine.submit(add, 1, tags="site==lab").result(30) == 1
