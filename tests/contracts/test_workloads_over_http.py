"""Workloads as forms over HTTP: what is listed, what is started, and what no form may do."""

from __future__ import annotations

import http.client
import io
import json
import threading
import uuid
import zipfile
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import dcengine
from dcengine import forms, workloads
from dcengine.api import current
from dcengine.errors import EngineClosed
from dcengine.verbs import TokenSpec
from tests.engines import embedded, eventually, served
from tests.unit.test_render_parts import END, blend, scene_block
from tests.unit.toys import OFFERED

SCENE = blend(scene_block(1, 3), END)  #: no Blender opens it, and none is asked here
Part = tuple[str, str] | tuple[str, str, bytes]  #: name and text, or name, name of a file and its content


class Desk:
    """Fills in forms."""

    def __init__(self, address: str, token: str) -> None:
        self.address, self.token = address, token

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "", token: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {token or self.token}"} | ({"Content-Type": kind} if kind else {})
            connection.request(method, f"/v1/{path}", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def fill_in(self, workload: str, *parts: Part, token: str = "") -> tuple[int, Any]:
        """Return status and answer."""
        line = uuid.uuid4().hex.encode()
        body = b"".join(b"--%s\r\n%s\r\n" % (line, written(part)) for part in parts) + b"--%s--\r\n" % line
        kind = f"multipart/form-data; boundary={line.decode()}"
        status, said = self.ask("POST", f"workloads/{workload}", body, kind, token)
        return status, json.loads(said)

    def listed(self) -> dict[str, Any]:
        return {each["name"]: each for each in json.loads(self.ask("GET", "workloads")[1])}


def written(part: Part) -> bytes:
    name, text = part[:2]
    if len(part) == 2:
        return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode()
    return f'Content-Disposition: form-data; name="{name}"; filename="{text}"\r\n\r\n'.encode() + part[2]


def desk_of(url: str) -> Desk:
    address = urlsplit(url)
    return Desk(address.netloc, parse_qs(address.query)["token"][0])


@pytest.fixture(scope="module", params=["embedded", "served"])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    db = tmp_path_factory.mktemp(request.param) / "work.db"
    if request.param == "served":
        with served(db, workers=1) as told:
            yield Desk(urlsplit(str(told["url"])).netloc, str(told["token"]))
    else:
        with embedded(db, workers=1, processes=False) as engine:
            yield desk_of(engine.url)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Desk]:
    """An engine of this process, whose packages offer toys."""
    entries = [EntryPoint(name, value, workloads.GROUP) for name, value in OFFERED.items()]

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in entries if entry.group == group and name in (None, entry.name)]

    monkeypatch.setattr(workloads, "entry_points", entry_points)
    with embedded(tmp_path / "work.db", workers=1, processes=False) as engine:
        yield desk_of(engine.url)


# ---- what there is -------------------------------------------------------------------------


def test_a_form_has_what_can_be_asked_and_nothing_about_the_files_of_the_engine(desk: Desk) -> None:
    form = desk.listed()["render"]
    fields = {field["name"]: field for field in form["fields"]}

    assert (form["title"][:6], form["problem"]) == ("Render", "")
    scene = fields["scene"]
    assert (scene["kind"], scene["is_needed"], scene["suffix"]) == ("file", True, ".blend")
    assert (fields["fps"]["kind"], fields["fps"]["default"], fields["fps"]["limits"][:5]) == ("number", 24.0, "above")
    assert (fields["movie"]["kind"], fields["samples"]["kind"]) == ("switch", "whole number")
    assert "out" not in fields


def test_each_kind_is_told_and_what_cannot_be_loaded_says_why_beside_the_others(toys: Desk) -> None:
    listed = toys.listed()
    fields = {field["name"]: field for field in listed["toy"]["fields"]}

    assert {name: field["kind"] for name, field in fields.items()} == {
        "parts": "file", "size": "whole number", "speed": "number", "colour": "choice", "mood": "choice",
        "names": "text", "wheels": "switch", "label": "text",
    }  # fmt: skip
    assert (fields["mood"]["choices"], fields["mood"]["default"]) == (["glad", "sad"], "glad")
    assert [name for name, field in fields.items() if field["is_many"]] == ["parts", "names"]
    assert sorted(listed) == sorted(OFFERED)
    assert [name for name, form in listed.items() if not form["problem"]] == ["toy"]
    assert "no such toy" in listed["raising"]["problem"]


# ---- what is started -----------------------------------------------------------------------


def test_a_form_that_is_filled_in_becomes_a_project_once_and_for_whoever_has_the_token(desk: Desk) -> None:
    token = current().call("create_token", TokenSpec(role="submit"))
    said = desk.fill_in("render", ("scene", "../scenes/cube.blend", SCENE), ("tags", "moon"), token=token.token)
    again = desk.fill_in("render", ("scene", "cube.blend", SCENE), ("tags", "moon"), ("frames", ""))
    project = said[1]["project"]

    assert said == again == (200, {"project": project})
    assert project.startswith("render-cube-")
    jobs = current().call("jobs", project=project, state=None, limit=10)
    assert sorted(job.key for job in jobs if job.key) == [f"frame 000{frame}" for frame in (1, 2, 3)]
    submitters = {current().call("job", job.id).submitter for job in jobs if job.key}
    assert submitters == {f"dashboard (token {token.status.id})"}
    assert current().call("delete_project", project) is not None


def test_lists_choices_and_switches_are_taken_and_the_project_runs_here(toys: Desk) -> None:
    more = [("size", "3"), ("speed", "0.5"), ("colour", "blue"), ("wheels", "false"), ("mood", "sad")]
    status, said = toys.fill_in("toy", ("parts", "a", b"wood"), ("parts", "b", b"nails"), ("names", "x"), *more)

    assert status == 200, said
    assert dcengine.Project(said["project"]).results(30) == [b"WOOD", b"NAILS"]


@pytest.mark.parametrize(
    ("parts", "about", "said"),
    [
        ([], "scene", "left out"),
        ([("scene", "/etc/hostname")], "scene", "a file, as a part"),
        ([("scene", "x.blend", b"words")], "x.blend", "no .blend file"),
        ([("scene", "x.blend", SCENE), ("out", "/tmp/no.mp4")], "out", "files of whoever asks"),
        ([("scene", "x.blend", SCENE), ("out", "no.mp4", b"")], "out", "files of whoever asks"),
        ([("scene", "x.blend", SCENE), ("scene", "y.blend", SCENE)], "scene", "expected one"),
        ([("scene", "x.blend", SCENE), ("frames", "f", b"1-3")], "frames", "expected text"),
        ([("scene", "x.blend", SCENE), ("frames", "1-9")], "frames", "1-3"),
        ([("scene", "x.blend", SCENE), ("fps", "nan")], "fps", "a number"),
        ([("scene", "x.blend", SCENE), ("fps", "1_0")], "fps", "a number"),
        ([("scene", "x.blend", SCENE), ("movie", "maybe")], "movie", "True or False"),
        ([("scene", "x.blend", SCENE), ("tags", "(")], "(", "tag is missing"),
        ([("scene", "x.blend", SCENE), ("tags", "a) | (b")], "a) | (b", "expression"),
        ([("scene", "x.blend", SCENE), ("sceen", "x.blend", SCENE)], "a parameter of render", "scene"),
        ([("scene", "x.blend", SCENE), ("__class__", "x")], "a parameter of render", "__class__"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_of_its_field_and_leaves_nothing(
    desk: Desk, parts: list[Part], about: str, said: str
) -> None:
    status, problem = desk.fill_in("render", *parts)

    assert (status, problem["facts"][0]) == (400, about), problem
    assert said in problem["message"]
    assert current().call("projects") == []
    assert not Path("/tmp/no.mp4").exists()


FORM = "multipart/form-data; boundary=a"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--a--"),
        (FORM, b"nothing"),
        (FORM, b"--a\r\n\r\nx\r\n--a--\r\n"),
        (FORM, b'--a\r\nContent-Disposition: form-data; name="fps"\r\n\r\n\xff\r\n--a--\r\n'),
        (FORM, b"--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n--a--\r\n"),
        (FORM, b'--a\r\nContent-Disposition: form-data; name="\x1e"\r\n\r\n12\r\n--a--\r\n'),
        (FORM, b'--a\r\nContent-Disposition: form-data; name="fps"\r\n\r\n12'),
        (
            FORM,
            b'--a\r\nContent-Disposition: form-data; name="fps"\r\n\r\n' + b"1" * (1 << 21) + b"\r\n--a--\r\n",
        ),
    ],
    ids=["json", "no boundary", "no parts", "no name", "no text", "nested", "control", "cut", "long"],
)
def test_bodies_that_are_no_form_are_refused(desk: Desk, kind: str, body: bytes) -> None:
    status, said = desk.ask("POST", "workloads/render", body, kind)

    assert status in (400, 413), said
    assert json.loads(said)["error"] in ("InvalidOption", "PayloadTooLarge")
    assert desk.ask("GET", "workloads")[0] == 200


def test_only_who_may_submit_may_start_and_who_looks_may_see_the_forms(desk: Desk) -> None:
    viewer = current().call("create_token", TokenSpec(role="view")).token

    assert desk.ask("GET", "workloads", token=viewer)[0] == 200
    assert desk.fill_in("render", ("scene", "x.blend", SCENE), token=viewer)[0] == 403
    assert desk.fill_in("nothing", token=viewer)[0] == 403
    assert desk.fill_in("nothing")[0] == 400


def test_a_start_that_waits_for_too_long_is_told_so_and_the_engine_answers_meanwhile(
    toys: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "START_SECONDS", 1.0)

    def waits(asked: object) -> dcengine.Project:
        eventually(lambda: toys.ask("GET", "workers")[0] == 200)  # this thread is none of the engine's
        return dcengine.submit(pow, 2, 3, tags="moon").result()

    toy = workloads.load("toy")
    monkeypatch.setattr(forms, "load", lambda name: toy._replace(project=waits))
    status, said = toys.fill_in("toy", ("parts", "a", b"wood"))

    assert (status, said["error"]) == (409, "ResultNotReady")


def test_an_engine_that_ends_does_not_wait_for_a_workload_that_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ends = list[BaseException]()

    def waits(asked: object) -> dcengine.Project:
        try:
            return dcengine.submit(pow, 2, 3, tags="moon").result()
        except BaseException as error:
            ends.append(error)
            raise

    render = workloads.load("render")
    monkeypatch.setattr(forms, "load", lambda name: render._replace(project=waits))
    with embedded(tmp_path / "work.db", workers=0, processes=False) as engine:
        asking = Thread(target=desk_of(engine.url).fill_in, args=("render", ("scene", "x.blend", SCENE)), daemon=True)
        monkeypatch.setattr(threading, "excepthook", lambda told: None)  # nobody answers it
        asking.start()
        eventually(lambda: current().call("status").counts.get("queued"))

    eventually(lambda: ends, 10)
    assert isinstance(ends[0], EngineClosed)


def test_an_error_in_a_plug_in_is_told_as_one(toys: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = workloads.load("toy")

    def raises(asked: object) -> dcengine.Project:
        raise ArithmeticError("too many wheels")

    monkeypatch.setattr(forms, "load", lambda name: toy._replace(project=raises))
    status, said = toys.fill_in("toy", ("parts", "a", b"wood"))

    assert (status, said["error"]) == (501, "WorkloadBroken")
    assert "ArithmeticError: too many wheels" in said["message"]


# ---- what comes of it ----------------------------------------------------------------------


def kept(item: str) -> Any:
    return {"bytes": b"\x89PNG\r\n\x1a\n", "text": "ä text", "object": object, "large": b"\0" * (3 << 20)}[item]


def test_what_a_stage_has_made_comes_as_a_zip_whose_names_lead_nowhere(desk: Desk) -> None:
    project = dcengine.Project(f"zipped {uuid.uuid4().hex[:4]}")
    project.stage(name="make")(kept)
    items = ["bytes", "text", "object", "large", "bytes", "bytes"]
    project.add(items, keys=["../../etc/a picture", "a/b.txt", "c", "CON: d", "etc/a picture", "/"])
    project.run().wait(30)
    status, said = desk.ask("GET", f"projects/{project.name.replace(' ', '%20')}/stages/make/outputs.zip")
    archive = zipfile.ZipFile(io.BytesIO(said))

    assert (status, archive.testzip()) == (200, None)
    assert archive.namelist() == ["etc/a picture.png", "a/b.txt", "CON_ d.bin", "etc/a picture-5.png", "file.png"]
    assert archive.read("a/b.txt").decode() == "ä text"
    assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert desk.ask("GET", f"projects/{project.name.replace(' ', '%20')}/stages/none/outputs.zip")[0] == 404
    assert desk.ask("GET", "projects/none/stages/none/outputs.zip")[0] == 404
    project.delete()


def test_the_beginning_of_a_long_movie_says_what_it_is(desk: Desk) -> None:
    project = dcengine.Project(f"film {uuid.uuid4().hex[:4]}")
    project.stage(name="make")(film)
    project.add([17 << 20])
    project.run().wait(30)
    [sample] = json.loads(desk.ask("GET", f"projects/{project.name.replace(' ', '%20')}/samples")[1])

    assert (sample["output"]["kind"], sample["output"]["media"]) == ("movie", "video/mp4")
    assert sample["output"]["size"] > 17 << 20
    assert desk.ask("GET", f"jobs/{sample['job']}/bytes")[1][4:12] == b"ftypisom"
    project.delete()


def film(size: int) -> bytes:
    return b"\0\0\0\x20ftypisom".ljust(size, b"\0")
