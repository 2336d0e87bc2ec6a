"""Hostile names and values: refused in one line, or carried unchanged, but never run.

Every payload goes into every field of a submission. What is accepted is run by a real bash, with
commands around it that only note what they are given; all payloads would leave the file `canary`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.check_slurm import check_slurm
from configs.errors import InputError
from configs.slurm import SlurmConfig
from launch.cli import main

WRITTEN = [
    "$(touch canary)", "`touch canary`", "x$(touch canary)", "${x:-$(touch canary)}",
    "$((`touch canary`))", "; touch canary", "x; touch canary #", "& touch canary &", "| touch canary",
    "|| touch canary", "&& touch canary", "(touch canary)", "{ touch canary; }", "<(touch canary)",
    ">canary", "x >canary", "2>canary", "x\ntouch canary", "\ntouch canary\n", "x\r\ntouch canary\r\n",
    "x\ttouch canary", "x\x0btouch canary", "'; touch canary; '", "'\ntouch canary\n'",
    '"; touch canary; "', '"$(touch canary)"', "'\"'\"'; touch canary; '\"'\"'", "\\'; touch canary #",
    "\\\ntouch canary", "\\", "x\\", "$'\\ntouch canary'", "%j", "x%j; touch canary", "%j$(touch canary)",
    "x\x00touch canary", "‘; touch canary; ’", "“$(touch canary)”", "x\u2028touch canary",
    "x\x85touch canary", "x\u202etouch canary", "\ud800", "\x1b]0;touch canary\x07", "--wrap=touch canary",
    "-x", "--", "-c touch${IFS}canary", "#SBATCH --wrap=touch", "x\n#SBATCH --wrap='touch canary'\n",
    "# touch canary", "a b", "*", "?", "~", "[x]", "!!", "^x^touch canary^", "x=$(touch canary)",
    "EOF\ntouch canary", "touch canary", "a" * 200, "$(touch canary)" * 300,
]  # fmt: skip
SHAPES = [
    "$({})", "`{}`", "; {}", "x\n{}\n", "'; {}; '", '"; {}; "', "' || {} || '", "| {}", "<({})", "\\\n{}",
    "%j;{};", "x=$({})", "$'\\n'{}", "EOF\n{}\nEOF", "]; {}; [", "x) ;; *) {} ;; y",
]  # fmt: skip
COMMANDS = [
    ">canary", "{touch,canary}", "touch${IFS}canary", "/usr/bin/touch canary", "cp /dev/null canary",
    "eval touch canary", "bash -c 'touch canary'", "tee canary </dev/null", "ln -s x canary",
]  # fmt: skip
PAYLOADS = WRITTEN + [shape.replace("{}", command) for command in COMMANDS for shape in SHAPES]

STRINGS = [
    "partition", "account", "qos", "reservation", "constraint", "nodelist", "exclude", "cpu_bind",
    "memory", "gpu_type", "gpu_request", "mail_user", "mail_type", "time", "notice", "container",
    "container_runtime", "container_python",
]  # fmt: skip
CHOICES = ("gpu_request", "container_runtime")
"""Refused by their type, before anything else is checked."""
DIRECTIVES = {"memory": "mem", "gpu_type": "gpus-per-node"}
"""Where a field stands in a script, if not under its own name."""


def test_every_string_reaches_this_file() -> None:
    """`setup` is the site's own shell; all other texts of the settings are attacked here."""
    numbers = {f.name for f in fields(SlurmConfig) if f.type in ("int", "bool")}
    others = {"setup", "environment", "container_options"}
    assert {f.name for f in fields(SlurmConfig)} - numbers - others == set(STRINGS)
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 200


@dataclass(frozen=True)
class Seen:
    """What a run of a script has shown."""

    text: str
    srun: list[str]
    environment: dict[str, str]

    @property
    def directives(self) -> dict[str, str]:
        """What sbatch reads."""
        lines = [shlex.split(s[8:]) for s in self.text.splitlines() if s.startswith("#SBATCH ")]
        assert all(len(words) == 1 for words in lines)
        pairs = [words[0].removeprefix("--").partition("=") for words in lines]
        return {key: value for key, _, value in pairs}


class Bench:
    """An empty folder to run scripts in, with stand-ins for all commands of a script."""

    def __init__(self, folder: Path, shards: Path) -> None:
        self.here = folder / "here"
        self.here.mkdir()
        self.shards = shards
        self.notes = folder
        self._bin = folder / "bin"
        self._bin.mkdir()
        # The attempt that `begin` prints, and nothing for the other steps.
        self.stand_in("python", "[[ $3 != begin ]] || echo /attempt")
        self.stand_in("srun", 'printf "%s\\0" "$@" >"$NOTES/srun"; env -0 >"$NOTES/environment"')
        self.stand_in("sbatch", "cat >/dev/null")
        self.environment = {"PATH": f"{self._bin}:/usr/bin:/bin", "NOTES": str(folder)}

    def stand_in(self, name: str, line: str) -> None:
        """A command that is this line of shell."""
        path = self._bin / name
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(0o755)

    def run(self, text: str) -> Seen:
        """A script, by bash."""
        for name in ("srun", "environment"):
            (self.notes / name).unlink(missing_ok=True)
        self.bash(text)
        srun, lines = (
            (self.notes / name).read_bytes().decode().split("\0")[:-1] for name in ("srun", "environment")
        )
        environment = {key: value for key, _, value in (s.partition("=") for s in lines)}
        return Seen(text, srun, environment)

    def bash(self, text: str) -> None:
        """Run it, whatever comes of it."""
        text = text.replace(shlex.quote(sys.executable), str(self._bin / "python"))
        subprocess.run(
            ["bash"], input=text.encode(), cwd=self.here, env=self.environment, capture_output=True,
            timeout=60, check=False,
        )  # fmt: skip

    def submit(self, words: Sequence[str], slurm: dict[str, Any], site: str = "") -> int:
        """`sokhan submit --dry-run` with these settings of a site."""
        file = self.notes / "site.yaml"
        file.write_text(yaml.safe_dump({"slurm": slurm}), encoding="utf-8")
        command = ["submit", "demo/bert_full", "--dry-run", f"--site={site or file}"]
        return main([*command, f"--data.shards={self.shards}", *words])

    def untouched(self) -> bool:
        """Whether nothing was run."""
        found = [*self.here.rglob("canary"), *self.notes.glob("canary"), *Path.cwd().glob("canary")]
        return not found


@pytest.fixture
def bench(text_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path, text_shards)
    monkeypatch.chdir(bench.here)
    monkeypatch.setenv("PATH", bench.environment["PATH"])
    monkeypatch.delenv("SOKHAN_SITE", raising=False)
    return bench


Check = Callable[[Seen, str], bool]


def attack(
    bench: Bench, capsys: pytest.CaptureFixture[str], payload: str, code: int, unchanged: Check
) -> bool:
    """What became of one submission; whether it was accepted."""
    shown = capsys.readouterr()
    accepted = code == 0
    if accepted:
        seen = bench.run(shown.out)
        assert unchanged(seen, payload), (payload, seen)
    else:
        assert code == 2 and not shown.out
        line = shown.err.removesuffix("\n")
        assert line.startswith("error: ") and line.isprintable(), repr(line)
    assert bench.untouched(), payload
    return accepted


def survivors(
    bench: Bench, capsys: pytest.CaptureFixture[str], settings: Callable[[str], dict[str, Any]],
    unchanged: Check, payloads: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """The payloads that a site's setting may be."""
    accepted = []
    for payload in payloads or PAYLOADS:
        code = bench.submit([], settings(payload))
        if attack(bench, capsys, payload, code, unchanged):
            accepted.append(payload)
    return accepted


def base(key: str) -> dict[str, Any]:
    """What a field goes together with."""
    return {"container_runtime": "pyxis", "container": "x"} if "container" in key else {}


@pytest.mark.parametrize("key", STRINGS)
def test_settings(key: str, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for payload in PAYLOADS if key not in CHOICES else ():
        with contextlib.suppress(InputError):
            check_slurm(SlurmConfig(**{**base(key), key: payload}))
            assert payload in ("x", "-x", "[x]", "a" * 200), payload

    def unchanged(seen: Seen, payload: str) -> bool:
        if key in ("container", "container_python", "cpu_bind"):
            return any(word.endswith(payload) for word in seen.srun)
        return seen.directives[DIRECTIVES.get(key, key.replace("_", "-"))] == payload

    # All of them would take long: every field another part, through the whole command.
    some = PAYLOADS[STRINGS.index(key) % 12 :: 12]
    accepted = survivors(bench, capsys, lambda payload: {**base(key), key: payload}, unchanged, some)
    assert not [payload for payload in accepted if "canary" in payload]


def test_values_of_the_environment(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    accepted = survivors(
        bench, capsys, lambda payload: {"environment": {"NOTE": payload}},
        lambda seen, payload: seen.environment["NOTE"] == payload,
    )  # fmt: skip
    assert "'; touch canary; '" in accepted and "%j" in accepted
    assert not [payload for payload in accepted if "\n" in payload or "\x00" in payload]


def test_names_of_the_environment(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    accepted = survivors(
        bench, capsys, lambda payload: {"environment": {payload: "x"}},
        lambda seen, payload: seen.environment[payload] == "x",
    )  # fmt: skip
    assert accepted == []


@pytest.mark.parametrize(
    ("runtime", "prefix"),
    [("pyxis", ""), ("pyxis", "--container-mounts="), ("apptainer", "")],
)
def test_options_of_containers(
    runtime: str, prefix: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    def settings(payload: str) -> dict[str, Any]:
        options = [prefix + payload]
        return {"container_runtime": runtime, "container": "x", "container_options": options}

    accepted = survivors(bench, capsys, settings, lambda seen, payload: prefix + payload in seen.srun)
    # An option is never taken for the command.
    assert all((prefix + payload).startswith("-") for payload in accepted)
    assert bool(accepted) == (runtime == "apptainer" or bool(prefix))


def in_folder(seen: Seen, folder: Path) -> bool:
    """Whether a script keeps to a submission's folder."""
    folder = folder.absolute()
    submission = seen.environment["SOKHAN_SUBMISSION"]
    logs = [seen.srun[seen.srun.index(key) + 1] for key in ("--output", "--error")]
    inside = [Path(path).parent == Path(submission) for path in [*logs, seen.directives["output"]]]
    return Path(submission).is_relative_to(folder) and all(inside)


def make(path: Path, shards: Path) -> None:
    """A folder of any name, with packed shards, where file systems allow it."""
    with contextlib.suppress(OSError, ValueError):
        path.symlink_to(shards, target_is_directory=True)


@pytest.mark.parametrize("key", ["output.name", "recipe"])
def test_names_of_recipes_and_runs(key: str, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for payload in PAYLOADS[key == "recipe" :: 2]:
        code = bench.submit([f"--{key}={payload}"], {})
        assert code == 2 or payload in ("-x", "--"), payload
        attack(bench, capsys, payload, code, lambda seen, payload: payload in seen.text)


def test_folders_of_runs(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for payload in PAYLOADS:
        code = bench.submit([f"--output.folder={payload}"], {})
        attack(bench, capsys, payload, code, lambda seen, payload: in_folder(seen, Path(payload)))


def test_other_texts_of_recipes(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """They reach no script: the recipe travels as a file."""
    accepted = 0
    keys = ("data.shards", "resume", "data.stage", "tracking.project", "tracking.entity")
    for payload in PAYLOADS:
        if payload == "--":  # argparse itself stumbles over `--resume=--`
            continue
        make(bench.here / payload, bench.shards)
        code = bench.submit([f"--{key}={payload}" for key in keys], {})
        accepted += attack(bench, capsys, payload, code, lambda seen, _: "canary" not in seen.text)
    assert accepted > 30


def test_the_name_of_a_site(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for payload in PAYLOADS[::2]:
        code = bench.submit([], {}, site=payload)
        assert not attack(bench, capsys, payload, code, lambda seen, payload: False)
        with contextlib.suppress(OSError, ValueError):
            (bench.here / payload).write_text("slurm: {partition: gpu}")
            code = bench.submit([], {}, site=payload)
            attack(bench, capsys, payload, code, lambda seen, _: seen.directives["partition"] == "gpu")


def test_the_current_folder(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for payload in PAYLOADS[::2]:
        folder = bench.here / payload
        try:
            folder.mkdir()
        except (OSError, ValueError):
            continue
        monkeypatch.chdir(folder)
        attack(
            bench, capsys, payload, bench.submit([], {}),
            lambda seen, _, folder=folder: in_folder(seen, folder),  # type: ignore[misc]
        )  # fmt: skip
        words = [f"--output.folder={bench.here / 'elsewhere'}"]
        assert attack(bench, capsys, payload, bench.submit(words, {}), lambda *_: True)
        monkeypatch.chdir(bench.here)


def test_this_test_would_notice(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The same scripts with a value that is not quoted."""
    assert bench.submit([], {"environment": {"NOTE": "HERE"}}) == 0
    text = capsys.readouterr().out
    noticed = []
    for payload in PAYLOADS:
        if "\x00" not in payload and "\ud800" not in payload:
            bench.bash(text.replace("export NOTE=HERE", f"export NOTE={payload}"))
            if not bench.untouched():
                noticed.append(payload)
            (bench.here / "canary").unlink(missing_ok=True)
    assert len(noticed) > len(PAYLOADS) / 3, noticed


DUMP = """
import json, os, sys
with open(os.environ["SEEN"], "w") as stream:
    json.dump([sys.argv, os.environ["NOTE"], os.environ["SOKHAN_COMMAND"]], stream)
"""
SCHEDULER = {
    "sbatch": 'cp "${@: -1}" "$NOTES/script"; echo Submitted batch job 123',
    "srun": 'while [[ $1 != */python ]]; do shift; done; exec "$@"',
    "squeue": "",
}


@pytest.mark.parametrize(
    "payload",
    ["$(touch canary)", "'; touch canary; '", '"`touch canary`"', "--force", "a b; touch canary"],
)
def test_the_command_line_of_a_rank(
    payload: str, bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From submission.json, members.json, the recipe and the pickle to a rank's arguments; all real but
    for the scheduler and the training."""
    for name, line in SCHEDULER.items():
        bench.stand_in(name, line)
    make(bench.here / payload, bench.shards)
    monkeypatch.setenv("NOTES", str(tmp_path))
    words = [f"--data.shards={payload}", f"--resume={payload}", f"--tracking.project={payload}"]
    slurm = [f"--slurm.environment.NOTE={payload}", "--slurm.failures=0", "--slurm.gpus_per_task=0"]
    monkeypatch.setattr(sys, "argv", ["sokhan", "submit", *words])
    typed = ["submit", "demo/bert_full", "--cluster", "slurm", *words, *slurm]
    assert main([*typed, "--output.folder=out", "--output.name=run"]) == 0
    [submission] = (bench.here / "out/bert_full/run/slurm").glob("2*")
    (submission / "code/trainers/__main__.py").write_text(DUMP)
    place = {
        "SLURM_JOB_ID": "123", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0",
        "SLURM_JOB_NODELIST": "localhost", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
        "SEEN": str(tmp_path / "seen"),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(tmp_path / "script")], cwd=bench.here, env={**os.environ, **place},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert "ended without a word" in done.stderr, done.stderr  # it has dumped, not trained
    arguments, note, command = json.loads((tmp_path / "seen").read_text())
    recipe = submission / "recipes" / "0.yaml"
    assert arguments[1:] == ["--config", str(recipe), f"--resume={payload}"]
    document = yaml.safe_load(recipe.read_text())
    assert document["data"]["shards"] == document["tracking"]["project"] == payload == note
    assert shlex.split(command) == ["sokhan", "submit", *words]
    assert bench.untouched()
