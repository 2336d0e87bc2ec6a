"""Where numbers go when training stops and goes on: files on a full disk, and real W&B runs.

Each start of a training is a process of its own (``session``), which can be killed.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from configs.load import load_recipe
from trainers.files.line_file import read_lines
from trainers.tracking.tracker import FileTracker, NoTracker
from trainers.tracking.wandb_run import NoWandb, new_run_id, open_wandb

EPOCH = 3
MARK = "SOKHAN_TEST_TRACKING"
SECRET = "5ec4e7" + "0" * 34
CUT_IN_TWO = '{"step": 9, "seconds": 0.'


def metric_lines(step: int) -> list[dict[str, Any]]:
    """A step's lines of metrics.jsonl; three at the end of an epoch."""
    epoch = (step - 1) // EPOCH + 1
    lines = [{"kind": "train", "step": step, "epoch": epoch, "loss": 1 / (step + 2), "items": 32}]
    if step % EPOCH == 0:
        lines.append({"kind": "train_epoch", "step": step, "epoch": epoch, "accuracy": step / 100})
        lines.append({"kind": "validation", "step": step, "epoch": epoch, "uar": step / 50})
    return lines


def session(folder: Path, first: int, last: int, end: str) -> None:
    """Train from step ``first`` to ``last``; ``end`` is a call of the tracker, or a signal to die of."""
    wandb = "auto" if "WANDB_BASE_URL" in os.environ else "offline"
    recipe = load_recipe("demo/bert_full", ["--data.shards", "none", "--tracking.wandb", wandb])
    run_id = (folder / "id").read_text()
    tracker = FileTracker(folder, open_wandb(recipe, folder, {"synthetic": True}, run_id))
    for step in range(first, last + 1):
        for line in metric_lines(step):
            tracker.metrics(line)
        tracker.performance({"step": step, "seconds": time.perf_counter(), "unit": "tokens/s"})
        if step % EPOCH == 2 and step > 2:  # a save is done after the step that it belongs to
            tracker.performance({"kind": "save", "step": step - 1, "stall": 0.1})
        if os.environ.get("KILL_HELPERS_AT") == str(step):
            for pid in marked_processes(os.environ[MARK]):
                if pid != os.getpid():
                    os.kill(pid, signal.SIGTERM)
                    wait_for(lambda pid=pid: pid not in marked_processes(os.environ[MARK]))
    tracker.sync()
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif end == "finish":
        tracker.finish({"test/accuracy": 0.75})
        tracker.pause()  # a signal or an error after the end changes nothing
        tracker.fail()
    else:
        getattr(tracker, end)()
    os._exit(0)


def marked_processes(mark: str) -> list[int]:
    """The living processes that have the mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            alive = "State:\tZ" not in (path / "status").read_text()
            if alive and f"{MARK}={mark}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


class Runs:
    """A run directory and the processes that train there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.id = new_run_id()
        (folder / "id").write_text(self.id)
        self.mark = f"{os.getpid()}-{self.id}"

    def start(self, first: int, last: int, end: str, **environment: str) -> str:
        """One process; returns what it printed. It must leave nothing running."""
        code = "import sys; from pathlib import Path; import tests.trainers.tracking.test_tracking as t"
        code += "; t.session(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])"
        known = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        known |= {MARK: self.mark, "WANDB_ERROR_REPORTING": "false", "WANDB_API_KEY": SECRET}
        known |= {} if "WANDB_BASE_URL" in environment else {"WANDB_MODE": "offline"}
        command = [sys.executable, "-c", code, str(self.folder), str(first), str(last), end]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=300, env=known | environment)
        assert answer.returncode == (-9 if end == "kill" else 0), answer.stdout + answer.stderr
        wait_for(lambda: not marked_processes(self.mark))
        return answer.stdout + answer.stderr

    def cut_back(self, step: int) -> None:
        """What a resume does first: leave in metrics.jsonl what the checkpoint knows of."""
        path = self.folder / "metrics.jsonl"
        kept = sum(len(metric_lines(s)) for s in range(1, step + 1))
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))

    def offline(self) -> Path:
        """The one offline run that there must be."""
        (run,) = (self.folder / "wandb").glob("offline-run-*")
        assert f"-{self.id}" in run.name
        return run

    def inspect(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The offline run's history and summary, by W&B's own reader."""
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
        outputs = []
        for more in ([], ["--summary"]):
            answer = subprocess.run(
                [*command, *more, str(self.offline())], capture_output=True, text=True, timeout=120
            )
            assert answer.returncode == 0, answer.stderr
            outputs.append(answer.stdout)
        records = map(json.loads, outputs[0].splitlines())
        history = [r["history"]["item"] for r in records if r["type"] == "history"]
        return [without_clock(row) for row in history], json.loads(outputs[1])

    def rows(self) -> list[dict[str, Any]]:
        """What W&B must have: the lines of both files, a row a step; the last line counts."""
        rows: dict[int, dict[str, Any]] = {}
        for name in ("metrics.jsonl", "perf.jsonl"):
            for text in (self.folder / name).read_text().splitlines():
                line = json.loads(text)
                row = rows.setdefault(line["step"], {"_step": line["step"]})
                kind = line.get("kind", "perf")
                row |= {f"{kind}/{k}": v for k, v in line.items() if k not in ("kind", "step", "unit")}
        return [rows[step] for step in sorted(rows)]


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in ("_runtime", "_timestamp")}


def without(rows: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    """Rows less some kinds of numbers. A save's are told late: they stand in a later row while training
    than in a run made anew. Times of what was trained twice may be the first ones online."""
    return [{k: v for k, v in row.items() if not k.startswith(kinds)} for row in rows]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "run")


def test_one_offline_run_after_three_resumes(runs: Runs, tmp_path: Path) -> None:
    runs.start(1, 8, "kill")
    assert read_lines_of(runs) == 8

    # The checkpoint was at step 5; the crash has cut a line in two.
    runs.cut_back(5)
    with (runs.folder / "perf.jsonl").open("a") as stream:
        stream.write(CUT_IN_TWO)
    first = runs.offline()
    runs.start(6, 9, "pause")
    assert runs.offline() != first
    history, state = runs.inspect()
    assert without(history, "save/") == without(runs.rows(), "save/")
    assert [row["_step"] for row in history] == list(range(1, 10))
    # The save at step 7 was measured twice: the crashed process's is in its row, ours was told late.
    assert [row["_step"] for row in history if "save/stall" in row] == [4, 7, 8]
    assert state["exit_code"] == 75 and "test/accuracy" not in state["summary"]

    # Stopped before the validation of step 9 was through: its row must still be completed.
    runs.cut_back(8)
    with (runs.folder / "metrics.jsonl").open("a") as stream:
        stream.write("".join(json.dumps(line) + "\n" for line in metric_lines(9)[:2]))
    runs.start(9, 8, "kill")
    runs.cut_back(8)
    said = runs.start(9, 12, "finish")
    assert "less than the current step" not in said and "warn" not in said.lower()

    history, state = runs.inspect()
    assert without(history, "save/") == without(runs.rows(), "save/")
    assert [row["_step"] for row in history] == list(range(1, 13))
    assert state["run_id"] == runs.id and state["exit_code"] == 0
    assert state["summary"]["test/accuracy"] == 0.75

    alone = FileTracker(tmp_path, NoWandb())
    for step in range(1, 13):
        for line in metric_lines(step):
            alone.metrics(line)
    length = alone.sync()
    alone.finish({})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    assert (runs.folder / "metrics.jsonl").read_bytes() == whole and len(whole) == length

    # W&B's record holds the recipe, but no key.
    stored = b"".join(p.read_bytes() for p in runs.folder.rglob("*") if p.is_file())
    assert b"bert_full" in stored
    assert SECRET.encode() not in stored


def read_lines_of(runs: Runs) -> int:
    return max(line["step"] for line in read_lines(runs.folder / "metrics.jsonl"))


@pytest.mark.parametrize(("end", "step"), [("pause", 6), ("finish", 4), ("fail", 6)])
def test_helpers_that_get_the_stop_signal(end: str, step: int, runs: Runs) -> None:
    """A scheduler's SIGTERM ends W&B's helper process at once: training goes on, with one warning,
    and a new helper gets all numbers at the end."""
    said = runs.start(1, 6, end, KILL_HELPERS_AT=str(step))
    assert said.count("W&B stopped taking numbers") == 1, said
    assert "Traceback" not in said, said
    history, state = runs.inspect()
    assert history == runs.rows()
    assert state["exit_code"] == {"pause": 75, "finish": 0, "fail": 1}[end]


def test_a_new_run_after_one_that_lost_its_helper(tmp_path: Path) -> None:
    """Several recipes are trained by one process."""
    one, two = Runs(tmp_path / "one"), Runs(tmp_path / "two")
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.trainers.tracking import test_tracking as t\n"
        "leave, os._exit = os._exit, lambda code: None\n"
        "t.session(Path(sys.argv[1]), 1, 6, 'fail')\n"
        "del os.environ['KILL_HELPERS_AT']\n"
        "t.session(Path(sys.argv[2]), 1, 6, 'finish')\n"
        "leave(0)\n"
    )
    environment = {**os.environ, "WANDB_MODE": "offline", "KILL_HELPERS_AT": "3", MARK: one.mark}
    command = [sys.executable, "-c", code, str(one.folder), str(two.folder)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert answer.returncode == 0, answer.stderr
    wait_for(lambda: not marked_processes(one.mark))
    for runs, code_at_end in ((one, 1), (two, 0)):
        history, state = runs.inspect()
        assert without(history, "save/") == without(runs.rows(), "save/")
        assert state["exit_code"] == code_at_end and state["run_id"] == runs.id


class Server(BaseHTTPRequestHandler):
    """What W&B's server must do for a run to be resumed: it remembers history rows."""

    history: dict[str, dict[int, dict[str, Any]]]
    ends: list[dict[str, Any]]

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        self._body()
        self._answer({})

    def do_POST(self) -> None:
        body = json.loads(self._body())
        if self.path.endswith("/file_stream"):
            rows = self.history[self.path.split("/")[-2]]
            chunk = body.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
            rows |= {chunk["offset"] + i: json.loads(r) for i, r in enumerate(chunk["content"])}
            if body.get("complete"):
                self.ends.append(body)
            self._answer({})
            return
        query, values = body.get("query", ""), body.get("variables", {})
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query)
        self._answer({"data": self._data(operation[1] if operation else "", values)})

    def _data(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": "sokhan", "entity": {"id": "e", "name": "someone"}}
        if operation == "RunResumeStatus":
            rows = self.history.get(values["name"])
            return {"model": project | {"bucket": rows and self._bucket(values["name"], rows)}}
        if operation == "UpsertBucket":
            rows = self.history.setdefault(values["name"], {})
            bucket = self._bucket(values["name"], rows) | {"project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": not rows}}
        if operation == "CreateRunFiles":
            url = f"http://127.0.0.1:{self.server.server_address[1]}/file"
            files = [{"name": name, "uploadUrl": url} for name in values["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        return {}

    def _bucket(self, name: str, rows: dict[int, dict[str, Any]]) -> dict[str, Any]:
        tail = json.dumps([json.dumps(rows[max(rows)])] if rows else [])
        return {
            "id": "r",
            "name": name,
            "displayName": name,
            "description": "",
            "sweepName": None,
            "config": "{}",
            "summaryMetrics": "{}",
            "tags": [],
            "wandbConfig": '{"t": 1}',
            "historyLineCount": len(rows),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]",
        }

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, document: dict[str, Any]) -> None:
        text = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class Remembering(Server):
        history: dict[str, dict[int, dict[str, Any]]] = {}  # noqa: RUF012
        ends: list[dict[str, Any]] = []  # noqa: RUF012

    with ThreadingHTTPServer(("127.0.0.1", 0), Remembering) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_online_runs_are_filled_up(runs: Runs, server: ThreadingHTTPServer) -> None:
    """Against a server on this machine: what a crash kept from W&B is sent at the next start, what it
    has is not sent again, and a run that began offline goes online whole."""
    handler: Any = server.RequestHandlerClass
    online = {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_address[1]}"}
    runs.start(1, 4, "kill")
    runs.cut_back(3)
    runs.start(4, 6, "pause", **online)
    assert not list((runs.folder / "wandb").glob("offline-run-*"))
    (end,) = handler.ends
    assert end["exitcode"] == 75
    # Step 6 may still get more lines, so W&B does not have its row yet.
    assert [row["_step"] for row in handler.history[runs.id].values()] == [1, 2, 3, 4, 5]
    runs.start(7, 9, "kill", **online)
    runs.cut_back(5)
    said = runs.start(6, 12, "finish", **online)
    assert "less than the current step" not in said
    assert list(handler.history) == [runs.id]
    rows = handler.history[runs.id]
    history = [without_clock(rows[number]) for number in sorted(rows)]
    assert [row["_step"] for row in history] == list(range(1, 13))
    assert without(history, "save/", "perf/") == without(runs.rows(), "save/", "perf/")
    assert handler.ends[-1]["exitcode"] == 0


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    for name in ("metrics.jsonl", "perf.jsonl"):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        (folder / name).symlink_to("/dev/full")
        tracker = FileTracker(folder, NoWandb())
        with pytest.raises(OSError) as caught:
            tracker.metrics({"kind": "train", "step": 1})
            tracker.performance({"step": 1})
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(folder / name)
        tracker.pause()  # nothing is left that it would have to write


def test_no_line_is_left_half_written(tmp_path: Path) -> None:
    """With a limit on the size of files, which cuts a write short as a full disk does."""
    tracker = FileTracker(tmp_path, NoWandb())
    tracker.metrics({"kind": "train", "step": 1})
    length = tracker.sync()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (length + 10, before[1]))
        with pytest.raises(OSError) as caught:
            tracker.metrics({"kind": "train", "step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    assert tracker.sync() == length
    tracker.metrics({"kind": "train", "step": 3})
    tracker.finish({})
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1, 3]


@pytest.mark.parametrize("padding", [0, 2**16 - 20, 2**17])
def test_a_line_cut_in_two_gives_way(padding: int, tmp_path: Path) -> None:
    whole = json.dumps({"step": 1, "text": "x" * padding}) + "\n"
    for text in ("", whole, whole + CUT_IN_TWO, CUT_IN_TWO, whole + CUT_IN_TWO + "1" * padding):
        (tmp_path / "perf.jsonl").write_text(text)
        tracker = FileTracker(tmp_path, NoWandb())
        tracker.performance({"step": 2})
        tracker.finish({})
        kept = whole if text.startswith(whole) else ""
        assert (tmp_path / "perf.jsonl").read_text() == kept + '{"step": 2}\n'


def test_other_ranks_write_nothing() -> None:
    tracker = NoTracker()
    tracker.metrics({})
    tracker.performance({})
    assert tracker.sync() == 0
    tracker.pause()
    tracker.fail()
    tracker.finish({})
