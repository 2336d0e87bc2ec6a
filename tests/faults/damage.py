"""Random damage to a checkpoint, by accident or by somebody who can make right hashes.

``try_damage(world, bases, work, number)`` makes the damage of that number, lets a start choose its
checkpoint, and says what came of it. Every damage function takes the folder of a checkpoint, changes
something, and returns names of which the message must hold one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
import stat
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from configs.errors import InputError
from configs.schema import CheckpointConfig
from trainers.checkpoints.checkpoint import (
    CHECKPOINTS,
    FACTS,
    SUMS,
    Checkpoint,
    commit,
    list_checkpoints,
    write_share,
)
from trainers.checkpoints.resume import choose
from trainers.checkpoints.rewind import check_rewind, rewind
from trainers.checkpoints.saving import Saver
from trainers.checkpoints.sharding import MOMENTS, WEIGHTS, Piece
from trainers.ranks.world import World

OLDER, NEWEST = "step-10-evaluated", "step-20-evaluated"
TENSORS = tuple(f"{group}-{rank:05d}.safetensors" for group in ("optimizer", "weights") for rank in (0, 1))
FILES = (FACTS, SUMS, *TENSORS)
OUTSIDE = "outside"
"""A folder beside the run, which nothing may touch."""
MARKER = "executed"
"""A file there that a planted pickle would make."""
LENGTHS = {OLDER: 40, NEWEST: 80}
"""Bytes of metrics.jsonl when they were saved."""

Names = tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of one damage."""

    number: int
    damage: str
    result: str
    """"refused" or "previous"."""
    problem: str = ""
    """What was wrong with that; empty: nothing."""


def make_run(folder: Path, best: str) -> Path:
    """A run of two ranks with two checkpoints, of which one has the best weights."""
    (folder / OUTSIDE).mkdir(parents=True)
    run = folder / "run"
    (run / CHECKPOINTS).mkdir(parents=True)
    (run / "metrics.jsonl").write_bytes(b"x" * 99 + b"\n")
    for tag in (OLDER, NEWEST):
        save(run, tag, best if tag == NEWEST else OLDER)
    return folder


def save(run: Path, tag: str, best: str) -> None:
    """One checkpoint of two ranks, with tensors of its own."""
    staging = run / CHECKPOINTS / f".saving-{tag}"
    staging.mkdir()
    generator = torch.Generator().manual_seed(len(tag) + int(tag.split("-")[1]))
    shares = [write_share(staging, rank, pieces_of(rank, generator)) for rank in (0, 1)]
    commit(staging, run / CHECKPOINTS / tag, shares, facts_of(tag, best))


def pieces_of(rank: int, generator: torch.Generator) -> list[Piece]:
    """A rank's share: parts of two tensors, and whole ones, one a scalar and one of integers."""

    def piece(kind: str, name: str, shape: tuple[int, ...], start: int, end: int) -> Piece:
        return Piece(kind, name, shape, start, torch.randn(end - start, generator=generator))

    start, end = ((0, 10), (10, 24))[rank]
    pieces = [piece(kind, "embed.weight", (6, 4), start, end) for kind in (WEIGHTS, *MOMENTS)]
    start, end = ((0, 4), (4, 9))[rank]
    pieces.append(piece(WEIGHTS, "frozen.weight", (3, 3), start, end))
    if rank == 0:
        pieces += [piece(kind, "bias", (5,), 0, 5) for kind in (WEIGHTS, *MOMENTS)]
    else:
        pieces.append(piece(WEIGHTS, "scale", (), 0, 1))
        pieces.append(Piece(WEIGHTS, "count", (2,), 0, torch.tensor([3, 4])))
    return pieces


def facts_of(tag: str, best: str) -> dict[str, Any]:
    """What a training has saved beside the tensors."""

    def best_of(tag: str) -> dict[str, Any]:
        step = int(tag.split("-")[1])
        return {"epoch": step // 10, "step": step, "metric": "accuracy", "value": 0.5, "tag": tag}

    step = int(tag.split("-")[1])
    state = {
        "epoch": step // 10, "steps_in_epoch": 10, "step": step, "evaluated": "evaluated" in tag,
        "best": best_of(best), "sums": [1.5, 2.0, 3.0], "seconds": 4.5,
    }  # fmt: skip
    return {
        "settings": {"optim.lr": 0.1, "recipe": "x", "optim.betas": [0.9, 0.99]},
        "data": {"corpus": "abc", "validation": "d", "test": "e"},
        "state": state,
        "best": best_of(best),
        "counters": {"updates": step},
        "saved_by": {"ranks": 2, "zero": 2},
        "plan": "f",
        "metrics_bytes": LENGTHS.get(tag, 40),
    }


# By accident


def truncated(path: Path, rng: Random) -> Names:
    file = path / rng.choice(FILES)
    os.truncate(file, rng.randrange(file.stat().st_size))
    return (file.name, *_listed_after(file))


def bit_flipped(path: Path, rng: Random) -> Names:
    file = path / rng.choice(FILES)
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return (file.name, *_listed_after(file))


def byte_changed(path: Path, rng: Random) -> Names:
    file = path / rng.choice(FILES)
    content = bytearray(file.read_bytes())
    at = rng.randrange(len(content))
    content[at] = (content[at] + rng.randrange(1, 256)) % 256
    file.write_bytes(content)
    return (file.name, *_listed_after(file))


def sector_zeroed(path: Path, rng: Random) -> Names:
    file = path / rng.choice(FILES)
    content = bytearray(file.read_bytes())
    at = rng.randrange(len(content) - 1)
    content[at : at + 64] = bytes(len(content[at : at + 64]))
    file.write_bytes(content)
    return (file.name,)


def bytes_added(path: Path, rng: Random) -> Names:
    file = path / rng.choice(FILES)
    at = rng.choice([0, file.stat().st_size])
    content = file.read_bytes()
    file.write_bytes(content[:at] + rng.randbytes(rng.randrange(1, 99)) + content[at:])
    return (file.name,)


def missing(path: Path, rng: Random) -> Names:
    file = path / rng.choice(FILES)
    file.unlink()
    return (file.name,)


def emptied(path: Path, rng: Random) -> Names:
    file = path / rng.choice(FILES)
    file.write_bytes(b"")
    return (file.name,)


def swapped_inside(path: Path, rng: Random) -> Names:
    one, other = rng.sample(FILES, 2)
    _swap(path / one, path / other)
    return (one, other)


def swapped_with_the_other(path: Path, rng: Random) -> Names:
    name = rng.choice(FILES)
    _swap(path / name, _other(path) / name)
    # Another's hashes are wrong for every file.
    return FILES if name == SUMS else (name,)


def copied_from_the_other(path: Path, rng: Random) -> Names:
    name, source = rng.choice(FILES), rng.choice(FILES)
    shutil.copyfile(_other(path) / source, path / name)
    return FILES if name == SUMS else (name,)


def without_an_end(path: Path, rng: Random) -> Names:
    """A small file that claims to be larger than memory, of which the disk holds next to nothing."""
    os.truncate(path / SUMS, rng.choice([2**30, 2**36, 2**42]))
    return (SUMS,)


def line_removed(path: Path, rng: Random) -> Names:
    lines = _lines(path)
    del lines[rng.randrange(len(lines))]
    (path / SUMS).write_text("".join(lines))
    return (SUMS,)


def line_duplicated(path: Path, rng: Random) -> Names:
    lines = _lines(path)
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    (path / SUMS).write_text("".join(lines))
    return (SUMS,)


def line_edited(path: Path, rng: Random) -> Names:
    """No longer of the form that it was written in."""
    lines = _lines(path)
    at = rng.randrange(len(lines))
    line = lines[at]
    lines[at] = rng.choice([
        line.upper(), line.replace("  ", " "), line.replace("  ", " *"), " " + line, "\n" + line,
        line[:-1] + "\r\n", line[:-1] + " \n", line[:-1] + "\0\n", "# " + line, line[1:], "0" + line,
        line.replace("0", "\u0660"), line.replace("-", "\u2010").replace(".", "\u2024"),
    ])  # fmt: skip
    (path / SUMS).write_text("".join(lines))
    return (SUMS,)


def renamed(path: Path, rng: Random) -> Names:
    step = path.name.split("-")[1]
    name = rng.choice(["step-30", "step-21-evaluated", f"step-{step}", f"step-0{path.name[5:]}"])
    path.rename(path.with_name(name))
    return (name, path.name)


# Other kinds of files


def file_replaced_by_a_link(path: Path, rng: Random) -> Names:
    """To the right content, to some other file, to nothing, to something without an end."""
    file = path / rng.choice(FILES)
    right = _outside(path) / "right"
    kept = path / rng.choice(["kept", ".kept"])
    file.rename(right)
    shutil.copyfile(right, kept)
    target = rng.choice([
        str(right), os.path.relpath(right, path), kept.name, "/etc/passwd", "/dev/zero", "nowhere",
        file.name, str(path),
    ])  # fmt: skip
    file.symlink_to(target)
    return (file.name,)


def file_replaced_by_something_else(path: Path, rng: Random) -> Names:
    file = path / rng.choice(FILES)
    file.unlink()
    rng.choice([os.mkfifo, os.mkdir])(file)
    return (file.name,)


def folder_replaced_by_a_link(path: Path, rng: Random) -> Names:
    elsewhere = _outside(path) / path.name
    path.rename(elsewhere)
    path.symlink_to(rng.choice([str(elsewhere), os.path.relpath(elsewhere, path.parent), "/", "nowhere"]))
    return (path.name,)


def folder_replaced_by_something_else(path: Path, rng: Random) -> Names:
    path.rename(_outside(path) / path.name)
    rng.choice([os.mkfifo, os.mkdir, Path.touch])(path)
    return (path.name,)


# With right hashes


def path_in_the_sums(path: Path, rng: Random) -> Names:
    """A line for a file elsewhere, with its hash, in another's place or besides."""
    lines = _lines(path)
    shutil.copyfile(path / TENSORS[0], _outside(path) / TENSORS[0])
    name = rng.choice([
        f"../{_other(path).name}/{TENSORS[0]}", f"../{path.name}/{TENSORS[1]}", f"./{TENSORS[2]}",
        str(_outside(path) / TENSORS[0]), "/etc/passwd", "..", f"../../../{OUTSIDE}/{TENSORS[0]}",
        str(path / TENSORS[3]),
    ])  # fmt: skip
    file = path / name
    line = f"{_sha(file) if file.is_file() else '0' * 64}  {name}\n"
    at = rng.randrange(len(lines))
    lines[at : at + rng.randrange(2)] = [line]
    (path / SUMS).write_text("".join(lines))
    return (SUMS,)


def unknown_file_in_the_sums(path: Path, rng: Random) -> Names:
    name = rng.choice(["weights-00002.safetensors", "optimizer-00009.safetensors", "weights.safetensors"])
    shutil.copyfile(path / rng.choice(TENSORS), path / name)
    with (path / SUMS).open("a") as stream:
        stream.write(f"{_sha(path / name)}  {name}\n")
    return (SUMS,)


def key_missing(path: Path, rng: Random) -> Names:
    facts = _facts(path)
    place = rng.choice([
        facts, facts["state"], facts["state"]["best"], facts["counters"], facts["shapes"],
        facts["pieces"], rng.choice(list(facts["pieces"].values())),
    ])  # fmt: skip
    del place[rng.choice([key for key in place if key != "saved_by"])]
    return _write_facts(path, json.dumps(facts))


def wrong_type(path: Path, rng: Random) -> Names:
    """Some value is of a type, a sign or a size that cannot be."""
    facts = _facts(path)
    place: Any = facts
    key: Any = rng.choice([key for key in facts if key != "saved_by"])
    while isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
        if key in ("settings", "data"):
            break  # what they hold is compared, not used
        place = place[key]
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
    wrong: list[Any] = [None, True, "x", 2**70, [[[]]], {"": {}}]
    if place is not facts["state"]["sums"] and key != "value":
        wrong += [-1, -0.5]
    if key == "plan":
        wrong.remove("x")
    place[key] = rng.choice([value for value in wrong if value != place[key]])
    return _write_facts(path, json.dumps(facts))


def no_json(path: Path, rng: Random) -> Names:
    """What Python's reader would take, or choke on."""
    text = json.dumps(_facts(path))
    deep = 10 ** rng.randrange(1, 6)
    text = rng.choice([
        text.replace("4.5", "NaN"), text.replace("4.5", "-Infinity"), text.replace("4.5", "1e999"),
        text.replace("0.5", "1e999"), text.replace("4.5", "9" * 5000), text.replace('"x"', "NaN"),
        text.replace('"x"', "[" * deep + "]" * deep), "[" * deep + "]" * deep,
        text.replace('"x"', '{"a":' * deep + "1" + "}" * deep), text[: rng.randrange(len(text) - 1)],
        f"[{text}]", text * 2, "", "null", "12", '"' + text, "\ufeff" + text, text + "\0",
        text.replace("{", '{"tag": 1, ', 1).replace('"tag": "', '"tag": "\\u0000'),
    ])  # fmt: skip
    _write_facts(path, text)
    if rng.random() < 0.1:
        (path / FACTS).write_bytes(text.encode("utf-16"))
        _reseal(path)
    return (FACTS,)


def piece_moved(path: Path, rng: Random) -> Names:
    """Gaps, overlaps and pieces beyond the end."""
    facts = _facts(path)
    file = rng.choice(list(facts["pieces"]))
    piece = rng.choice(list(facts["pieces"][file].values()))
    at = rng.randrange(2)
    piece[at] += rng.choice([-1, 1, -piece[at] - 1, 3, 10**6, 2**62, -(2**63), 2**64])
    return (*_write_facts(path, json.dumps(facts)), file)


def pieces_exchanged(path: Path, rng: Random) -> Names:
    """Each of them could be, were it not for the other or for what the file holds."""
    facts = _facts(path)
    group = rng.choice(["weights", "optimizer"])
    first, second = (facts["pieces"][f"{group}-0000{rank}.safetensors"] for rank in (0, 1))
    key = "weights/embed.weight" if group == "weights" else "exp_avg/embed.weight"
    other = rng.choice(["exchange", "overlap", "same", "elsewhere"])
    if other == "exchange":
        first[key], second[key] = second[key], first[key]
    elif other == "overlap":  # as many elements as there should be
        second[key] = [5, 14]
    elif other == "same":
        second[key] = first[key]
    else:
        second[f"{key}.x"] = second.pop(key)
    return (*_write_facts(path, json.dumps(facts)), *TENSORS)


def shape_changed(path: Path, rng: Random) -> Names:
    facts = _facts(path)
    name = rng.choice(list(facts["shapes"]))
    facts["shapes"][name] = rng.choice([
        [7, 4], [0, 4], [0], [-6, -4], [24, 2**62], [2**80], [2, 2, 2, 2], [6.0, 4], [True], [[6], [4]],
        [2**52] * 10**6,
    ])  # fmt: skip
    return (*_write_facts(path, json.dumps(facts)), *TENSORS)


def path_in_the_facts(path: Path, rng: Random) -> Names:
    """A piece's file, or the best weights' folder, somewhere else."""
    facts = _facts(path)
    if rng.random() < 0.5:
        name = rng.choice([
            f"../{path.name}/{TENSORS[2]}", str(path / TENSORS[2]), "/etc/passwd", "optimizer.pt", "..",
            f"{TENSORS[2]}\n", f"weights-{'0' * 300}.safetensors", "",
        ])  # fmt: skip
        facts["pieces"][name] = facts["pieces"].pop(TENSORS[2])
        shutil.copyfile(path / TENSORS[2], path / "optimizer.pt")
        with (path / SUMS).open("a") as stream:
            stream.write(f"{_sha(path / 'optimizer.pt')}  {name}\n")
        return (*_write_facts(path, json.dumps(facts), reseal=False), SUMS)
    shutil.copytree(path, _outside(path) / path.name)
    tag = rng.choice([
        f"../{CHECKPOINTS}/{path.name}", str(_outside(path) / path.name), "step-99", "..", "", "/",
        f"../../{OUTSIDE}/{path.name}", f"{path.name}\n", "step-\u0661\u0660-evaluated", "\ud800",
    ])  # fmt: skip
    if path.name == OLDER and tag == "step-99":
        tag = ".."  # the best weights of the best weights' checkpoint are not looked for
    facts["best"]["tag"] = facts["state"]["best"]["tag"] = tag
    return (*_write_facts(path, json.dumps(facts)), "step-99")


def tag_changed(path: Path, rng: Random) -> Names:
    facts = _facts(path)
    facts["tag"] = rng.choice([
        _other(path).name, "step-30", "", "..", f"{path.name}\nerror: all is well", "\ud800", "\x1b[2J",
        f"../{path.name}", "x" * 10000,
    ])  # fmt: skip
    return _write_facts(path, json.dumps(facts))


def another_format(path: Path, rng: Random) -> Names:
    facts = _facts(path)
    facts["format"] = rng.choice([0, 2, "1", 1.0, True, None, [1], 10**400])
    return _write_facts(path, json.dumps(facts))


def state_of_another(path: Path, rng: Random) -> Names:
    facts, others = _facts(path), _facts(_other(path))
    key = rng.choice(["state", "all"])
    facts = {**facts, "state": others["state"]} if key == "state" else others
    return _write_facts(path, json.dumps(facts))


def header_broken(path: Path, rng: Random) -> Names:
    """The first bytes of a safetensors file say how long its header is."""
    file = path / rng.choice(TENSORS)
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    deep = b"[" * 10**5
    file.write_bytes(rng.choice([
        length_of(2**63) + content[8:], length_of(2**64 - 1) + content[8:], length_of(0) + content[8:],
        length_of(len(content)) + content[8:], length_of(length - 1) + content[8:],
        length_of(length + 1) + content[8:], length_of(99 * 10**6) + content[8:], content[:5], content[:8],
        length_of(length) + rng.randbytes(len(content)), content[: 8 + length], content[:-1], content + b"x",
        length_of(len(deep)) + deep, length_of(2) + b"{}", length_of(4) + b"null",
        length_of(length) + b"\xff" * length + content[8 + length :],
    ]))  # fmt: skip
    _reseal(path)
    return (file.name,)


def length_of(header: int) -> bytes:
    """The first eight bytes of a safetensors file."""
    return header.to_bytes(8, "little")


def header_changed(path: Path, rng: Random) -> Names:
    """A header that is one, but not that of the tensors that were saved."""
    file = path / rng.choice(TENSORS)
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    body = content[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice([name for name in names if "embed" in name])
    entry = header[name]
    change = rng.choice(["type", "shape", "offsets", "name", "less", "more", "unknown", "half"])
    if change == "type":
        entry["dtype"] = rng.choice(["I32", "U32"])
    elif change == "shape":
        entry["shape"] = rng.choice([[1, *entry["shape"]], [2, entry["shape"][0] // 2], [2**64], [-1], []])
    elif change == "offsets":
        entry["data_offsets"][rng.randrange(2)] += rng.choice([-4, 4, 2**40, -(2**40)])
    elif change == "name":
        header[f"{name}.x"] = header.pop(name)
    elif change == "less":
        del header[name]
    elif change == "more":
        header["more"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(body), len(body) + 4]}
        body += bytes(4)
    elif change == "unknown":
        entry["dtype"] = rng.choice(["PICKLE", "F32\nerror: all is well", 5])
    else:
        entry["dtype"], entry["shape"] = "F16", [2 * entry["shape"][0]]
    text = json.dumps(header).encode()
    file.write_bytes(length_of(len(text)) + text + body)
    _reseal(path)
    return TENSORS if change == "type" else (file.name,)  # either of the two may be the right one


def pickle_planted(path: Path, rng: Random) -> Names:
    """In place of a file, or besides where the sums name it; unpickling it would be seen."""
    target = path / rng.choice([*FILES, "optimizer.pt", "weights-00000.pt", "pytorch_model.bin"])
    payload = Payload(str(_outside(path) / MARKER))
    if rng.random() < 0.5:
        torch.save({"weights": payload}, target)
    else:
        target.write_bytes(pickle.dumps(payload))
    if target.name == SUMS:
        return (SUMS,)
    if target.name not in FILES:
        with (path / SUMS).open("a") as stream:
            stream.write(f"{_sha(target)}  {target.name}\n")
        return (SUMS,)
    _reseal(path)
    return (target.name,)


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.marker),))


DAMAGES: tuple[Callable[[Path, Random], Names], ...] = (
    truncated, bit_flipped, byte_changed, sector_zeroed, bytes_added, missing, emptied, swapped_inside,
    swapped_with_the_other, copied_from_the_other, without_an_end, line_removed, line_duplicated, line_edited,
    renamed, file_replaced_by_a_link, file_replaced_by_something_else, folder_replaced_by_a_link,
    folder_replaced_by_something_else, path_in_the_sums, unknown_file_in_the_sums, key_missing,
    wrong_type, no_json, piece_moved, pieces_exchanged, shape_changed, path_in_the_facts, tag_changed,
    another_format, state_of_another, header_broken, header_changed, pickle_planted,
)  # fmt: skip


def try_damages(world: World, bases: Mapping[str, Path], work: Path, numbers: range) -> list[Outcome]:
    """Several, one after the other, each in a fresh copy of one of the runs."""
    outcomes = []
    for number in numbers:
        outcomes.append(try_damage(world, bases, work, number))
        shutil.rmtree(work)
    return outcomes


def try_damage(world: World, bases: Mapping[str, Path], work: Path, number: int) -> Outcome:
    """Damage the newest checkpoint or the best one of a copy of a run, and start from it."""
    rng = Random(number)
    damage = DAMAGES[number % len(DAMAGES)]
    best = rng.choice(sorted(bases))
    shutil.copytree(bases[best], work)
    folder = work / "run" / CHECKPOINTS / rng.choice(sorted({NEWEST, best}))
    names = damage(folder, rng)
    before = {tag: _look(bases[best] / "run" / CHECKPOINTS / tag) for tag in (OLDER, NEWEST)}
    damaged = {tag for tag in before if _look(folder.with_name(tag)) != before[tag]}
    assert folder.name in damaged, f"{damage.__name__} {number} has changed nothing"
    result = "?"
    try:
        expected = digest(Checkpoint(bases[best] / "run" / CHECKPOINTS / OLDER))
        result = _start(world, work, damaged, names, expected, rng)
        problem = ""
    except Exception:
        problem = traceback.format_exc()
    return Outcome(number, f"{damage.__name__} {number} of {folder.name}", result, problem)


def _start(world: World, work: Path, damaged: set[str], names: Names, expected: str, rng: Random) -> str:
    """What a start does with it; AssertionError where it does the wrong thing."""
    folder = work / "run" / CHECKPOINTS
    state, outside = _look(work), _look(work / OUTSIDE)
    found = list_checkpoints(folder)
    with Warnings() as warnings:
        try:
            choose(found, world, CheckpointConfig(damaged="refuse"))
            raise AssertionError("not refused")
        except InputError as error:
            _check_message(str(error), damaged, names)
        assert not warnings.lines
        try:
            chosen = choose(found, world, CheckpointConfig())
        except InputError as error:
            _check_message(str(error), damaged, names)
            chosen = None
    assert _look(work) == state, "something was changed"
    if chosen is None:
        return "refused"
    assert chosen.folder.name == OLDER and OLDER not in damaged, f"{chosen.folder.name} was taken"
    assert len(warnings.lines) == 1
    _check_message(warnings.lines[0], damaged, names)
    assert digest(chosen) == expected
    _go_on(world, work / "run", chosen, rng)
    assert _look(work / OUTSIDE) == outside, "something outside was changed"
    return "previous"


def chosen_tag(world: World, checkpoints: Path) -> tuple[str, str]:
    """What a start takes, or why nothing; and what it says to the user."""
    with Warnings() as warnings:
        try:
            chosen = choose(list_checkpoints(checkpoints), world, CheckpointConfig())
        except InputError as error:
            return "", str(error)
    assert chosen is not None
    digest(chosen)
    return chosen.folder.name, "\n".join(warnings.lines)


def go_on_beside(world: World, work: Path, number: int) -> list[str]:
    """Damage the older checkpoint, which is not needed, and save on from the newest."""
    rng = Random(number)
    checkpoints = work / "run" / CHECKPOINTS
    damage = DAMAGES[number % len(DAMAGES)]
    damage(checkpoints / OLDER, rng)
    if (tag := chosen_tag(world, checkpoints)[0]) != NEWEST:
        return [f"{damage.__name__}: {tag or 'nothing'} was taken"]
    saver = Saver(work / "run", world, CheckpointConfig(keep=3, optimizer="newest"), "test")
    pieces = [Piece(WEIGHTS, "w", (3,), 0, torch.randn(3))]
    try:
        saver.start("step-40", 40, pieces, facts_of("step-40", NEWEST), time.monotonic())
        saver.wait()
        saver.keep_finished(OLDER)
        for tag in ("step-40", NEWEST):
            Checkpoint(checkpoints / tag).verify()
    except Exception:
        return [f"{damage.__name__}: {traceback.format_exc()}"]
    return []


def _go_on(world: World, run: Path, chosen: Checkpoint, rng: Random) -> None:
    """The next save takes the damaged checkpoint's place, whatever that has become."""
    check_rewind(run, chosen, force=False)
    rewind(run, chosen)
    assert (run / "metrics.jsonl").stat().st_size == LENGTHS[OLDER]
    saver = Saver(run, world, CheckpointConfig(keep=rng.choice([1, 2, 9])), "test")
    pieces = [Piece(WEIGHTS, "w", (3,), 0, torch.randn(3))]
    saver.start("step-15", 15, pieces, facts_of("step-15", OLDER), time.monotonic())
    saver.wait()
    saver.keep_finished(OLDER)
    left = sorted(path.name for path in (run / CHECKPOINTS).iterdir())
    assert left == [OLDER, "step-15"], left
    for path in list_checkpoints(run / CHECKPOINTS):
        Checkpoint(path).verify()


def _check_message(message: str, damaged: set[str], names: Names) -> None:
    assert len(message.splitlines()) == 1 and message.isprintable(), message
    assert len(message) < 3000, message
    assert any(name in message for name in names), f"{names} not in: {message}"
    assert any(tag in message for tag in (*damaged, *names)), message


def digest(checkpoint: Checkpoint) -> str:
    """Of every weight and every moment."""
    sha = hashlib.sha256()
    for key in sorted({key for pieces in checkpoint.facts["pieces"].values() for key in pieces}):
        kind, _, name = key.partition("/")
        elements = torch.Size(checkpoint.facts["shapes"][name]).numel()
        sha.update(key.encode() + checkpoint.part(kind, name, 0, elements).numpy().tobytes())
    for name, tensor in checkpoint.weights.items():
        sha.update(f"{name} {list(tensor.shape)}".encode())
    return sha.hexdigest()


class Warnings(logging.Handler):
    """Takes what is logged inside the ``with``."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> Warnings:
        logging.getLogger("sokhan").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("sokhan").removeHandler(self)


def _look(folder: Path) -> dict[str, Any]:
    """Everything below a folder: kinds of files, where links lead, and contents."""
    found: dict[str, Any] = {}
    for path in [folder, *folder.rglob("*")] if not folder.is_symlink() else [folder]:
        mode = path.lstat().st_mode if os.path.lexists(path) else 0
        content: Any = None
        if stat.S_ISREG(mode):
            with path.open("rb") as stream:  # some claim to be without an end
                content = path.stat().st_size, stream.read(2**20)
        elif stat.S_ISLNK(mode):
            content = os.readlink(path)
        found["" if path == folder else str(path.relative_to(folder))] = stat.S_IFMT(mode), content
    return found


def _swap(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _other(path: Path) -> Path:
    return path.with_name(OLDER if path.name == NEWEST else NEWEST)


def _outside(path: Path) -> Path:
    return path.parents[2] / OUTSIDE


def _lines(path: Path) -> list[str]:
    return (path / SUMS).read_text().splitlines(keepends=True)


def _listed_after(file: Path) -> Names:
    """A changed hash or name in the sums is told by the file that it belongs to."""
    return FILES if file.name == SUMS else ()


def _facts(path: Path) -> Any:
    return json.loads((path / FACTS).read_text())


def _write_facts(path: Path, text: str, reseal: bool = True) -> Names:
    (path / FACTS).write_text(text)
    if reseal:
        _reseal(path)
    else:
        lines = [line for line in _lines(path) if not line.endswith(f"  {FACTS}\n")]
        (path / SUMS).write_text("".join([*lines, f"{_sha(path / FACTS)}  {FACTS}\n"]))
    return (FACTS,)


def _reseal(path: Path) -> None:
    """Make all hashes right again."""
    names = [line.split()[1] for line in _lines(path)]
    (path / SUMS).write_text("".join(f"{_sha(path / name)}  {name}\n" for name in names))


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
