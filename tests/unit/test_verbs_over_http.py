"""Every verb, from the client through the server to an engine and back: what is asked, answered and raised."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, cast

import msgspec
import pytest

from dcengine import codec
from dcengine.client import Client
from dcengine.errors import InvalidTransition
from dcengine.server import Listening, application, listen
from dcengine.verbs import (
    AddedJobs,
    BackupDone,
    BanDone,
    BatchStatus,
    Completion,
    ContributorReport,
    ContributorStatus,
    Deletion,
    Delivery,
    Earned,
    EngineStatus,
    Event,
    EventPage,
    Explanation,
    FailedItem,
    FailureGroup,
    FailureGroups,
    Flag,
    Grant,
    Heartbeat,
    HeldTask,
    HistoryEntry,
    ImportRecord,
    ImportStep,
    ItemsSubmission,
    JobFilter,
    JobPage,
    JobResult,
    JobStatus,
    JoinTicket,
    LeaderboardRow,
    LeasedTask,
    LeaseRequest,
    Line,
    Mine,
    NewToken,
    NewWebhook,
    OutsiderFilter,
    OutsiderPage,
    OutsideWorker,
    ProjectSpec,
    ProjectStatus,
    Registered,
    Registration,
    Report,
    SessionStatus,
    StageCredit,
    StageOutput,
    StageSpec,
    StageStatus,
    Standing,
    StoredValue,
    TaskAnswer,
    TaskFailure,
    TaskFlag,
    Throughput,
    TokenSpec,
    TokenStatus,
    Transcript,
    Try,
    VacuumDone,
    Verbs,
    WebhookSpec,
    WebhookStatus,
    WorkerStatus,
    WorkerVerdict,
)
from tests.unit.engine_double import Tokens, batch_of, submission_of
from tests.unit.losing import losing_answers

ODD = "100 % ä?&#+'%41;"
PICKLED = codec.dumps({"a": [1, None]})

JOB = JobStatus(
    id=7,
    project=ODD,
    number=3,
    name="f",
    state="open",
    task_state="blocked",
    generation=2,
    flags=1,
    parent=5,
    stage="b",
)
PROJECT = ProjectStatus(
    name=ODD,
    is_paused=False,
    stages=[StageStatus(name=ODD, tags="gpu", counts={"returned": 1}, kind="lease", shape="expand", is_paused=True)],
    succeeded=4,
)
OUTPUT = StageOutput(9, 4, "failed", b"\x00\xff", "b", 2)
HISTORY = HistoryEntry(
    task=1,
    stage="a",
    generation=1,
    state="returned",
    attempt=3,
    worker="w",
    contributor="alice",
    finished=2.5,
    input=PICKLED,
    output=b'J{"a":1}',
    parts=[4, 5],
    tries=[Try(attempt=1, worker=None, what="released", reason="gone", at=1.5, seconds=0.25)],
    flags=[Flag(voter="bob", reason="dark", worker="w", at=2.0)],
)
ITEMS = ItemsSubmission(
    project=ODD,
    blocks=[codec.pack([b"J1", b"J2"])],
    count=2,
    keys=["1", "2"],
    not_before=5.0,
    keep=6.0,
    root=4,
    is_last=False,
    imported=ImportStep(name="s3://a b/{0..9}", offset=4, before=b"\x01" * 32, after=b"\x02" * 32),
    request="r",
)
VERDICT = WorkerVerdict(name=ODD, lacking=["cuda>=12 (it has cuda=11)"], problem="cannot be used")
ROW = LeaderboardRow("alice", 3, 0.75, 1)
LEASED = LeasedTask(
    task=1,
    job=2,
    number=3,
    token="t/1?",
    deadline=10.5,
    lease_seconds=60.0,
    input=msgspec.Raw(b'{"a": [1, "\xc3\xa4"]}'),
    generation=1,
    attempt=4,
)
ANY_PROJECT: dict[str, Any] = {"project": None}  #: over HTTP, the token says it
WISH = LeaseRequest(project=ODD, stage=ODD, worker="w-1", n=5, nickname="alice", tags={"gpu": None, "cuda": "12"})
TOKEN_SPEC = TokenSpec(role="worker", project=ODD, nickname="alice", seconds=2.5, note="for ä")
TOKEN = TokenStatus(
    id=7, role="worker", project=ODD, nickname="alice", note="for ä", created=1.5, expires=4.0, revoked=3.0,
    state="revoked",
)  # fmt: skip
DELIVERY = Delivery(
    id="msg_1", event="job_failed", state="failed", created=1.5, tries=3, finished=2.5, status=500, reason=ODD
)
HOOK_SPEC = WebhookSpec(url=f"https://example.com/{ODD}", events=["job_failed", "stage_done"])
HOOK = WebhookStatus(
    id=7, project=ODD, url="https://example.com/", events=["job_failed"], created=1.5, active=False, reason=ODD,
    pending=3, last=DELIVERY,
)  # fmt: skip
BANNED = BanDone(nickname=ODD, since=5.5, voided=4, requeued=3, leases=2, tokens=1)
ACCEPTED = TaskAnswer(token="t", is_accepted=True, deadline=20.5, cancel=True)
REFUSED = TaskAnswer(token="u", is_accepted=False, problem="somebody else has it")
WORKER = WorkerStatus(
    name="w", address="a", contributor="alice", state="ready", slots=2, busy=1, tags={"gpu": None}, running=[7]
)
REGISTERED = Registered(secret="geheim", name="quiet-otter-71")
OUTSIDER = OutsideWorker(
    name="quiet-otter-71", project=ODD, stage="a", nickname="alice", first_seen=1.5, last_seen=2.5, completed=3,
    progress="ä", holding=[4], tokens=["t"], last_said="u",
)  # fmt: skip
BESIDE = {"registered_worker": OUTSIDER}  #: asked beside the verb itself, to know whose project it is about
ENGINE = EngineStatus(
    version="0.3", db="x.db", url="", pid=1, started=1.0, scheduler=None, workers=0, slots=0, counts={"returned": 1}
)


REPORT = ContributorReport(
    nickname=ODD,
    at=2.5,
    hours=[0, 3],
    stages=[StageCredit(ODD, "a", 3)],
    newest=[Earned(ODD, "a", 7, 3, 1, 1.5)],
    places={"day": Standing(ODD, 3, 14, 15)},
    workers=[OUTSIDER],
)
MINE = Mine(
    role="worker",
    token=3,
    project=ODD,
    contributors=[REPORT],
    held=1,
    holding=[HeldTask(project=ODD, stage="a", job=7, number=3, worker=ODD, deadline=1.5)],
)
GROUP = FailureGroup(
    project=ODD, stage="look", pattern="N is odd", count=3, reason="7 is odd", jobs=[7], newest=2.5, oldest=1.5
)


class Asked(NamedTuple):
    """A verb, what it is asked with, and what the engine answers."""

    verb: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    answer: Any


VALUE = StoredValue("ab" * 32, 7, 1.5, 2.5)
ASKED = [
    Asked("submit", (msgspec.structs.replace(submission_of(abs, -1), request="r"),), {}, JOB),
    Asked("submit_batch", (msgspec.structs.replace(batch_of(codec.pack_function(abs), 2), request="r"),), {}, None),
    Asked("job", (7,), {}, JOB),
    Asked("jobs", (), {"state": "open", "project": ODD, "before": 9, "limit": 3}, [JOB]),
    Asked("result", (7,), {"wait": 0.0}, JobResult("expired", b"")),
    Asked("ends", ([7, 8],), {"wait": 0.0}, {7: JobResult("failed", b"\x00\xff"), 8: JobResult("missing", b"")}),
    Asked("output", (7,), {}, "said\n"),
    Asked("transcript", (7,), {"after": 2, "wait": 0.0}, Transcript([Line(3, "stdout", "x")], True)),
    Asked("why", (7,), {}, "because"),
    Asked("history", (7,), {}, [HISTORY]),
    Asked(
        "find_jobs",
        (JobFilter(project=ODD, state="failed", submitter=ODD, text=ODD),),
        {"before": 9, "limit": 3},
        JobPage([JOB], 5),
    ),
    Asked("failure_groups", (), {"project": ODD}, FailureGroups(groups=[GROUP], looked_at=3, is_all=True)),
    Asked("retry_failures", (ODD, ODD, ODD), {}, 3),
    Asked("throughput", (ODD,), {"span": "week"}, Throughput(at=1.5, credit=[0, 3], stages={"look": [1]})),
    Asked(
        "events",
        (),
        {"after": 5, "project": ODD, "wait": 0.0, "limit": 3},
        EventPage([Event(seq=6, at=1.5, kind="failed", job=7, detail="no")], 9),
    ),
    Asked("retry", ([7, 8],), {}, 2),
    Asked("prioritize", ([7, 8], -3), {}, 2),
    Asked("edit", (7, PICKLED), {}, JOB),
    Asked("interrupt", (7,), {}, JOB),
    Asked("kill", (7,), {}, JOB),
    Asked("tell", (7, b"\x00a word"), {}, True),
    Asked("cancel", (7,), {}, JOB),
    Asked("cancel_unfinished", (), {}, 12),
    Asked("batch", (7,), {}, None),
    Asked("batches", (), {"before": 9, "limit": 3}, []),
    Asked("reports", (7,), {"after": 1, "wait": 0.0}, [Report(2, 0, 1, "succeeded", b"\x00")]),
    Asked("failures", (7,), {"limit": 3}, [FailedItem(0, 8, "no")]),
    Asked("cancel_batch", (7,), {}, None),
    Asked("retry_batch", (7,), {}, None),
    Asked(
        "declare_project",
        (
            ProjectSpec(
                name=ODD,
                stages=[
                    StageSpec(name="a", function=codec.pack_function(abs), shape="expand", back_off=2.0),
                    StageSpec(name="b", kind="lease", votes=5, credit="unit", is_paused=True),
                    StageSpec(name="c", function=codec.pack_function(len), shape="gather", on_failed_part="skip"),
                ],
            ),
        ),
        {},
        PROJECT,
    ),
    Asked("add_jobs", (ITEMS,), {}, AddedJobs(1, 2, 3, 4, 5)),
    Asked("run_project", (ODD,), {"stage": None}, PROJECT),
    Asked("run_project", (ODD,), {"stage": ODD}, PROJECT),
    Asked("pause_project", (ODD,), {"stage": None}, PROJECT),
    Asked("pause_project", (ODD,), {"stage": ODD}, PROJECT),
    Asked("cancel_project", (ODD,), {}, 3),
    Asked("retry_project", (ODD,), {"stage": None, "cancelled": False}, 3),
    Asked("retry_project", (ODD,), {"stage": ODD, "cancelled": True}, 3),
    Asked("deletion", (ODD,), {}, Deletion(project=ODD, jobs=5, open=4, running=3, contributors=2)),
    Asked("delete_project", (ODD,), {}, Deletion(project=ODD, jobs=5, open=4, running=3, contributors=2)),
    Asked("imported", (ODD, "s3://a b/{0..9}?&"), {}, ImportRecord(items=5, digest=b"\xff\x00", updated=1.5, root=3)),
    Asked("imported", (ODD, "list.json"), {}, None),
    Asked("project", (ODD,), {"stage": None, "wait": 0.0}, PROJECT),
    Asked("project", (ODD,), {"stage": ODD, "wait": 0.0}, PROJECT),
    Asked("projects", (), {}, [PROJECT]),
    Asked("outputs", (ODD, ODD), {"after": 3, "limit": 2}, [OUTPUT]),
    Asked("newest_outputs", (ODD,), {"stage": ODD, "limit": 2}, [OUTPUT]),
    Asked("failed_jobs", (ODD,), {"after": 3, "limit": 2}, [OUTPUT]),
    Asked("find_job", (ODD, 3), {}, 7),
    Asked("lease", (WISH,), {}, [LEASED]),
    Asked(
        "heartbeat",
        ([Heartbeat(token="t", done=0.5, total=2, text="ä"), Heartbeat(token="u")],),
        ANY_PROJECT,
        [ACCEPTED],
    ),
    Asked(
        "complete",
        ([Completion(token="t", output=msgspec.Raw(b'[1, "\xc3\xa4"]'), units=3), Completion(token="u")],),
        ANY_PROJECT,
        [ACCEPTED, REFUSED],
    ),
    Asked("fail", ([TaskFailure(token="t", reason="no\nroom")],), ANY_PROJECT, [REFUSED]),
    Asked("flag", ([TaskFlag(token="t", reason="dark"), TaskFlag(token="u")],), ANY_PROJECT, [ACCEPTED, REFUSED]),
    Asked("release", (["t", "u"],), ANY_PROJECT, [ACCEPTED, REFUSED]),
    Asked("register_worker", (Registration(project=ODD, stage=ODD, nickname="ä", name="n 1"),), {}, REGISTERED),
    Asked("registered_worker", ("geheim",), {}, OUTSIDER),
    Asked("lease_as", ("geheim",), {"n": 2, "wait": 0.0, "is_volunteer": False, "grant": None}, [LEASED]),
    Asked("held_tasks", ("geheim",), {}, [LEASED]),
    Asked("leave_worker", ("geheim",), {}, True),
    Asked("say_progress", ("geheim", "ä <b>"), {}, True),
    Asked("outside_workers", (ODD,), {"tags": "gpu", "name": ODD}, [OUTSIDER]),
    Asked(
        "find_outside_workers",
        (OutsiderFilter(project=ODD, tags="gpu", text=ODD, order="-done"),),
        {"skip": 3, "limit": 7},
        OutsiderPage([OUTSIDER], 9, 12),
    ),
    Asked("value", ("ab" * 32,), {}, VALUE),
    Asked("read_value", ("ab" * 32,), {"at": 5, "size": 7}, b"1234567"),
    Asked("delete_value", ("ab" * 32,), {}, True),
    Asked("create_token", (TOKEN_SPEC,), {}, NewToken(token="geheim", status=TOKEN)),
    Asked("tokens", (), {}, [TOKEN]),
    Asked("revoke_token", (7,), {}, TOKEN),
    Asked("add_webhook", (ODD, HOOK_SPEC), {}, NewWebhook(secret="whsec_geheim", status=HOOK)),
    Asked("webhooks", (ODD,), {}, [HOOK]),
    Asked("remove_webhook", (ODD, 7), {}, HOOK),
    Asked("test_webhook", (ODD, 7), {}, DELIVERY),
    Asked("deliveries", (ODD, 7), {"limit": 2}, [DELIVERY]),
    Asked("ban_contributor", (ODD,), {"since": 5.5}, BANNED),
    Asked("unban_contributor", (ODD,), {}, ContributorStatus(nickname=ODD)),
    Asked("banned_contributors", (), {}, [ContributorStatus(nickname=ODD, banned=6.5)]),
    Asked("contributor", (ODD,), {}, REPORT),
    Asked("mine", (), {"grant": Grant(role="admin")}, MINE),
    Asked("my_jobs", (), {"before": 9, "limit": 3, "grant": Grant(role="admin")}, JobPage([JOB], 5)),
    Asked("workers", (), {"tags": "gpu>=2", "name": ODD}, [WORKER]),
    Asked("explain", ("gpu & cuda>=12",), {}, Explanation(sentence="nobody", workers=[VERDICT])),
    Asked("tag_worker", (ODD, "gpu,note='a, b'"), {}, WORKER),
    Asked("sessions", (), {}, [SessionStatus(name="x", worker=ODD, state="idle", began=1.5, idle=2.5, job=3)]),
    Asked("end_session", (ODD,), {}, True),
    Asked("leaderboard", (ODD,), {"span": "week", "limit": 5}, [ROW]),
    Asked("standing", (ODD, ODD), {"span": "month"}, Standing(ODD, 3, 14, 15)),
    Asked("status", (), {}, ENGINE),
    Asked("join_ticket", (), {}, JoinTicket("tls://a", "ca", None, "key", "0.3")),
    Asked("backup", ("/some where/ä.db",), {}, BackupDone(path="/x", bytes=1, blobs=2, seconds=0.5)),
    Asked("vacuum", (), {}, VacuumDone(before=2, after=1, blobs=3, blob_bytes=4, seconds=0.5)),
]
BATCH = BatchStatus(id=7, project="functions", name="f", state="open", count=2)


class Recorder:
    """Takes down what it is asked, and answers or raises what a test has laid out for it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}
        self.failing: dict[str, Exception] = {}

    def __getattr__(self, verb: str) -> Any:
        async def answer(*arguments: Any, **options: Any) -> Any:
            self.asked.append((verb, arguments, options))
            if verb in self.failing:
                raise self.failing[verb]
            return self.answers[verb] if verb in self.answers else BESIDE[verb]

        return answer


@pytest.fixture
def engine() -> Recorder:
    return Recorder()


@pytest.fixture
async def listening(engine: Recorder) -> AsyncIterator[Listening]:
    opened = await listen(application(cast(Verbs, engine), access=Tokens()), "127.0.0.1", 0)
    yield opened
    await opened.close()


def test_every_verb_is_asked_here() -> None:
    verbs = {name for name, _ in inspect.getmembers(Verbs, inspect.isfunction) if not name.startswith("_")}

    assert verbs == {asked.verb for asked in ASKED} | {"put_value"}  # what comes in pieces: test_values_over_http


@pytest.mark.parametrize("verb", sorted({asked.verb for asked in ASKED}))
def test_the_client_takes_what_the_verb_takes(verb: str) -> None:
    assert inspect.signature(getattr(Client, verb)) == inspect.signature(getattr(Verbs, verb))


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.verb)
async def test_the_same_arguments_arrive_and_the_same_answer_comes_back(
    engine: Recorder, client: Client, asked: Asked
) -> None:
    answer = BATCH if asked.answer is None and "batch" in asked.verb else asked.answer
    engine.answers = {asked.verb: answer, "deletion": answer}

    told = await getattr(client, asked.verb)(*asked.arguments, **asked.options)

    assert told == answer
    assert engine.asked[-1] == (asked.verb, asked.arguments, asked.options)


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.verb)
async def test_the_same_error_comes_back(engine: Recorder, client: Client, asked: Asked) -> None:
    engine.answers = {"deletion": Deletion(project=ODD, jobs=5, open=4, running=3, contributors=2)}
    engine.failing = {asked.verb: InvalidTransition(7, "LEASED", "QUEUED")}

    with pytest.raises(InvalidTransition, match="task 7 is LEASED and cannot become QUEUED"):
        await getattr(client, asked.verb)(*asked.arguments, **asked.options)


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.verb)
async def test_a_verb_whose_answer_was_lost_is_asked_of_the_engine_once_or_under_the_same_name(
    engine: Recorder, asked: Asked
) -> None:
    """What changes something is done once; what says itself what it is (a submission, a report) may arrive twice."""
    engine.answers = {asked.verb: BATCH if asked.answer is None and "batch" in asked.verb else asked.answer}
    engine.answers.setdefault("deletion", asked.answer)
    async with losing_answers(application(cast(Verbs, engine), access=Tokens())) as (url, lost):
        client = Client(url, "admin-token")
        told = await getattr(client, asked.verb)(*asked.arguments, **asked.options)
        await client.close()

    times = [verb for verb, _, _ in engine.asked].count(asked.verb)
    assert lost
    assert told == engine.answers[asked.verb]
    assert times == (2 if asked.verb in REPEATABLE else 1)


REPEATABLE = {
    # What moves nothing.
    *("job", "jobs", "result", "ends", "output", "transcript", "why", "history", "events", "find_jobs"),
    *("failure_groups", "newest_outputs", "contributor", "mine", "my_jobs"),
    *("batch", "batches", "reports", "failures"),
    *(
        "deletion",
        "imported",
        "project",
        "projects",
        "throughput",
        "outputs",
        "failed_jobs",
        "find_job",
        "workers",
        "explain",
    ),
    *("registered_worker", "held_tasks", "outside_workers", "find_outside_workers"),
    *("leaderboard", "standing", "status", "join_ticket", "value", "read_value", "tokens"),
    *("banned_contributors", "sessions", "webhooks", "deliveries"),
    # What carries a name that the engine keeps, or says where something is to be.
    *("submit", "submit_batch", "add_jobs", "declare_project"),
    # What the engine answers alike when it is said again.
    *("heartbeat", "complete", "fail", "flag", "release", "say_progress"),
}
