"""Who may read a run and go on with it: modes of all that is written, and real users' trainings."""

from __future__ import annotations

import grp
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from configs.access import make_parents, make_run_folder
from configs.beginning import Beginning
from configs.load import SUMMARY, load_recipe, run_folder
from tests.conftest import REPOSITORY
from tests.launch.launched import PATIENCE, until
from tests.ranks import RankPool
from trainers.ranks.world import World
from trainers.run import train

Ranks = Callable[[int], RankPool]
NAME = "demo/bert_full"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acting as other users needs root")


def some_group() -> str:
    """A group of the system's that is not this process's own."""
    names = [name for name in ("users", "games", "nogroup") if name_exists(name)]
    return names[0] if names else pytest.skip("no group of a usual name here")


def name_exists(name: str) -> bool:
    try:
        return grp.getgrnam(name).gr_gid != os.getegid()
    except KeyError:
        return False


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def arguments(shards: Path, out: Path, *more: str) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--model.vocabulary",
        "300",
        "--batching.items",
        "16",
        "--output.folder",
        str(out),
        "--output.name",
        "run",
        *more,
    ]


def train_with_umask(world: World, umask: int, overrides: list[str]) -> tuple[str, int]:
    """The run directory, and the umask afterwards."""
    before = os.umask(umask)
    try:
        folder = train(load_recipe(NAME, overrides), world, Beginning())
    finally:
        after = os.umask(before)
    return str(folder), after


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_run_is_its_owners(umask: int, ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(text_shards, shards, ignore=shutil.ignore_patterns("cache"))
    overrides = arguments(shards, tmp_path / "runs", "--loop.max_steps", "2")
    answers = ranks(2).run(train_with_umask, umask, overrides)
    folder = Path(answers[0][0])
    assert {after for _, after in answers} == {umask}
    assert (folder / SUMMARY).is_file() and (folder / "wandb").is_dir()
    assert mode(folder) == 0o700
    open_to_others = [p for p in folder.rglob("*") if not p.is_symlink() and mode(p) & 0o077]
    assert open_to_others == []
    assert mode(folder.parent) == mode(folder.parent.parent) == 0o777 & ~umask
    # What is kept beside the shards is for whoever reads them.
    assert {mode(path) for path in (shards / "cache").iterdir()} == {0o666 & ~umask}


def test_an_older_run_becomes_private(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(0o755)
    make_run_folder(folder, "")
    assert mode(folder) == 0o700


@needs_root
def test_a_run_given_to_a_group_later(tmp_path: Path) -> None:
    """Its owner's files become the group's, but nothing that only has a name in there."""
    group = some_group()
    folder, secret, linked = tmp_path / "run", tmp_path / "secret", tmp_path / "linked"
    (folder / "checkpoints" / "step-1").mkdir(parents=True, mode=0o700)
    for path in (secret, linked, folder / "lock", folder / "checkpoints" / "step-1" / "tensors"):
        path.write_text("x")
        path.chmod(0o600)
    (folder / "link").symlink_to(secret)
    (folder / "hard").hardlink_to(linked)
    os.mkfifo(folder / "pipe", 0o600)
    make_run_folder(folder, group)
    number = grp.getgrnam(group).gr_gid
    for path in (folder, folder / "checkpoints" / "step-1"):
        assert (mode(path), path.stat().st_gid) == (0o2770, number)
    for path in (folder / "lock", folder / "checkpoints" / "step-1" / "tensors"):
        assert (mode(path), path.stat().st_gid) == (0o660, number)
    for path in (secret, linked, folder / "pipe"):
        assert (mode(path), path.stat().st_gid) == (0o600, os.getegid())
    make_run_folder(folder, "")
    assert mode(folder) == 0o700


@needs_root
def test_members_may_make_runs_beside_it(tmp_path: Path) -> None:
    group = some_group()
    (tmp_path / "there").mkdir(0o755)
    before = os.umask(0o027)
    try:
        make_parents(tmp_path / "there" / "runs" / "recipe" / "run", group)
    finally:
        os.umask(before)
    number = grp.getgrnam(group).gr_gid
    for path in (tmp_path / "there" / "runs", tmp_path / "there" / "runs" / "recipe"):
        assert (mode(path), path.stat().st_gid) == (0o3770, number)
    assert mode(tmp_path / "there") == 0o755


def test_no_such_group(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    overrides = arguments(text_shards, tmp_path / "runs", "--output.group", "no-such-group")
    with pytest.raises(RuntimeError, match=r"InputError: key 'output.group' is 'no-such-group': "):
        ranks(2).run(train_with_umask, 0o022, overrides)
    assert not (tmp_path / "runs").exists()


@dataclass
class User:
    """Somebody with an account of the number ``uid``, which need not exist."""

    uid: int
    home: Path
    groups: str
    umask: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """Run Python as this user."""
        self.home.mkdir(exist_ok=True)
        os.chown(self.home, self.uid, self.uid)
        environment = {
            **os.environ,
            "HOME": str(self.home),
            "USER": f"user{self.uid}",
            "WANDB_MODE": "offline",
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        become = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", self.groups]
        process = subprocess.Popen(
            [
                *within_reach(self.home),
                f'umask {self.umask}; exec "$@"',
                "sh",
                *become,
                sys.executable,
                *command,
            ],
            cwd=REPOSITORY,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.started.append(process)
        return process

    def run(self, command: list[str]) -> tuple[int, str]:
        """Exit code and all output."""
        process = self.start(command)
        output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output


def within_reach(folder: Path) -> list[str]:
    """A shell in which other users reach the interpreter of these tests. It may lie in root's home:
    then in name spaces of the shell's own, where nothing else of that home is to be seen."""
    base = Path(sys.base_prefix).resolve()
    closed = [path for path in base.parents if not path.stat().st_mode & 0o001]
    if not closed:
        return ["sh", "-c"]
    (folder / "python").mkdir(exist_ok=True)
    open_it = (
        f"set -e; mount --bind {base} {folder}/python; mount -t tmpfs -o mode=755 none {closed[-1]}; "
        f'mkdir -p {base}; mount --bind {folder}/python {base}; exec sh -c "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", open_it, "sh"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="sokhan-users-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def users(place: Path) -> Iterator[list[User]]:
    """Two members of a group, and a stranger; they can run the code of this checkout."""
    number = grp.getgrnam(some_group()).gr_gid
    made = [
        User(61001, place / "a", f"--groups={number}", "022"),
        User(61002, place / "b", f"--groups={number}", "077"),
        User(61003, place / "c", "--clear-groups", "022"),
    ]
    code, output = made[0].run(["-c", "import trainers.run"])
    if code:
        pytest.skip(f"another user cannot run this checkout: {output.splitlines()[-1]}")
    yield made
    for process in (process for user in made for process in user.started):
        if process.poll() is None:
            process.kill()
        process.communicate()


@needs_root
def test_a_member_goes_on_and_nobody_else(users: list[User], place: Path, text_shards: Path) -> None:
    """Begun by one and stopped, gone on with by another and killed, finished by the first."""
    first, second, stranger = users
    shards, group = place / "shards", some_group()
    shutil.copytree(text_shards, shards)
    (place / "runs").mkdir()
    os.chown(place / "runs", first.uid, first.uid)
    overrides = arguments(shards, place / "runs", "--loop.epochs", "6")
    overrides += ["--data.workers", "1", "--checkpoint.every_steps", "2"]
    folder = run_folder(load_recipe(NAME, overrides))
    command = ["-m", "trainers", "--config", NAME, *overrides]
    shared = [*command, "--output.group", group]

    code, output = stranger.run(shared)
    assert (code, output.count("\n")) == (2, 1) and "you are not in that group" in output
    assert not folder.parent.exists()

    process = first.start(shared)
    after_steps(folder, 5, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 75, process.communicate()[0]
    check_group(folder, group)

    code, output = stranger.run(command)
    assert (code, output.count("\n")) == (2, 1), output
    assert f"{folder}: belongs to another user" in output

    process = second.start(command)  # without naming the group: the run is that group's already
    after_steps(folder, steps(folder) + 8, process)
    process.kill()
    process.wait()
    check_group(folder, group)
    owners = {path.stat().st_uid for path in folder.glob("checkpoints/*/*")}
    assert second.uid in owners, "the second has saved nothing"

    code, output = first.run(shared)
    assert code == 0, output
    assert (folder / SUMMARY).is_file() and "goes on after step" in output
    check_group(folder, group)

    code, output = second.run(
        [
            "-c",
            f"""
from pathlib import Path
from trainers.folder import clear
clear(Path({str(folder)!r}))
""",
        ]
    )
    assert code == 0, output
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "lock"}


def steps(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.is_file() else 0


def after_steps(folder: Path, number: int, process: subprocess.Popen[str]) -> None:
    def explain() -> str:
        return process.communicate()[0] if process.poll() is not None else "still at work"

    until(lambda: steps(folder) >= number, lambda: process.poll() is None, explain)


def check_group(folder: Path, group: str) -> None:
    """All there is belongs to the group, which may do what the owner may, and to nobody else."""
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            continue
        assert status.st_gid == grp.getgrnam(group).gr_gid, path
        allowed = 0o2770 if path.is_dir() else 0o660
        if path.parent.name.startswith(".saving-"):
            # safetensors makes its files for the owner alone. A save that is killed before they are
            # opened leaves one so: members need not read it, and may remove it with its folder.
            allowed &= stat.S_IMODE(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == allowed, f"{path}: {oct(status.st_mode)}"
