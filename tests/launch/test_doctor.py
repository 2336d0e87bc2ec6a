"""`sokhan doctor` on this machine, and site files from what clusters of other kinds would say. A real
cluster is asked in tests/slurm."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from configs.cluster import load_cluster
from configs.errors import InputError
from launch.cli import main
from launch.doctor.cluster_facts import (
    ClusterFacts,
    NodeKind,
    clock,
    gpus_of,
    parse_config,
    parse_partitions,
    seconds,
)
from launch.doctor.site_file import remarks, site_text, write_site

CONFIG = """Configuration data as of 2026-01-02T10:00:00
AccountingStorageType   = accounting_storage/none
ClusterName             = big
JobRequeue              = 0
KillWait                = 30 sec
MaxArraySize            = 1001
PreemptMode             = GANG,SUSPEND
SelectType              = select/cons_tres
SLURM_VERSION           = 23.02.7

Slurmctld(primary) at head is UP
"""
NODES = """cpu|up|infinite|12|64|256000|(null)
gpu*|up|2-00:00:00|2|128|1031000+|gpu:a100:8(S:0-3),nvme:1
gpu*|up|2-00:00:00|1|128|1031000|gpu:h100:4,gpu:h200:4
old|down|30:00|4|16+|64000|gpu:2
"""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, no SLURM, nobody's keys."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("WANDB_API_KEY", "SOKHAN_SITE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def facts(config: str = CONFIG, nodes: str = NODES) -> ClusterFacts:
    settings = parse_config(config)
    return ClusterFacts(
        settings["ClusterName"], settings["SLURM_VERSION"], settings, tuple(parse_partitions(nodes))
    )


def lines(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[str]:
    assert main(["doctor", *words]) == code
    return capsys.readouterr().out.splitlines()


def test_a_machine_without_slurm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hub" / "models--some--bert" / "snapshots").mkdir(parents=True)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    told = lines(capsys)
    assert all(line.startswith(("ok  ", "note  ", "not here  ")) for line in told)
    text = "\n".join(told)
    assert "packages: torch 2." in text and "deepspeed 0." in text
    assert "the cache holds some/bert" in text
    assert "W&B key set" in text and "0123456789abcdef" not in text
    assert "runs: runs can be written" in text
    assert told[-1] == "not here  no SLURM: `sokhan submit` starts processes of this machine"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    monkeypatch.delenv("WANDB_API_KEY")
    assert any("W&B key set" in line for line in lines(capsys))


def test_what_is_missing_is_told_and_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    (tmp_path / "taken").touch()
    site.write_text(f"recipe: {{output: {{folder: {tmp_path}/taken/runs}}}}\n")
    told = lines(capsys, "--site", str(site), code=1)
    assert f"missing   runs: {tmp_path}/taken/runs cannot be written" in told


def test_slurm_that_does_not_answer_is_missing_only_where_it_is_needed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("sinfo", "scontrol"):
        (tmp_path / name).write_text(
            "#!/bin/sh\necho scontrol: error: Unable to contact slurm controller >&2\nexit 1\n"
        )
        (tmp_path / name).chmod(0o755)
    down = "SLURM does not answer: Unable to contact slurm controller"
    assert lines(capsys)[-1] == f"not here  {down}: --cluster local uses processes of this machine"
    assert f"missing   {down}" in lines(capsys, "--write", "site.yaml", code=1)
    (tmp_path / "mine.yaml").write_text("slurm: {partition: gpu}\n")
    assert f"missing   {down}" in lines(capsys, "--site", "mine.yaml", code=1)
    monkeypatch.setenv("SOKHAN_SITE", "mine.yaml")
    assert f"missing   {down}" in lines(capsys, code=1)


def test_the_hub_answers_or_not(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Silence."""

    monkeypatch.delenv("HF_HUB_OFFLINE")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        assert any("model hub http://127.0.0.1" in one and "answers" in one for one in lines(capsys))
        hub.shutdown()
    with socket.socket() as nobody:  # holds a port on which nobody listens
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert any("not reached" in one and one.startswith("not here") for one in lines(capsys))


def test_torch_is_tried_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    told = [line for line in lines(capsys, "--deep") if line[10:].startswith("torch: ")]
    assert len(told) == 1 and "GPU(s) that compute" in told[0]


@pytest.mark.parametrize(
    ("gres", "found"),
    [
        ("(null)", (0, "")),
        ("gpu:4", (4, "")),
        ("gpu", (1, "")),
        ("gpu:a100:8(S:0-1)", (8, "a100")),
        ("nvme:1,gpu:tesla:2(IDX:0-1)", (2, "tesla")),
        ("gpu:a:4,gpu:b:4", (8, "")),
        ("shard:gpu:4", (0, "")),
    ],
)
def test_gres(gres: str, found: tuple[int, str]) -> None:
    assert gpus_of(gres) == found


def test_time_limits() -> None:
    for text, total in (
        ("infinite", None),
        ("1-00:00:00", 86400),
        ("12:00:00", 43200),
        ("30:00", 1800),
        ("n/a", None),
    ):
        assert seconds(text) == total
    assert (clock(43200), clock(2 * 86400 + 61)) == ("12:00:00", "2-00:01:01")


def test_partitions() -> None:
    cpu, gpu, old = facts().partitions
    assert (cpu.name, cpu.limit, cpu.default) == ("cpu", None, False)
    assert gpu.default and gpu.usual == NodeKind(2, 128, 1031000, 8, "a100")
    assert len(gpu.nodes) == 2 and not old.up and old.usual.cpus == 16


def test_a_site_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    write_site(facts(), path)
    slurm = load_cluster(str(path)).slurm
    assert (slurm.partition, slurm.time, slurm.cpus_per_task) == ("gpu", "2-00:00:00", 16)
    assert (slurm.gpu_type, slurm.gpus_per_task, slurm.gpu_request) == ("a100", 1, "gpus_per_node")
    assert "#   cpu: no time limit, 12 x 64 cores" in path.read_text()
    with pytest.raises(InputError, match="is there already"):
        write_site(facts(), path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["big.yaml"]


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ("all*|up|infinite|2|2|4000|(null)\n", {"gpus_per_task": 0, "cpus_per_task": 2}),
        ("all*|up|infinite|2|2|4000|(null)\n", {"time": "1-00:00:00", "notice": "2m"}),
        ("short*|up|2:00|2|2|4000|(null)\n", {"time": "00:02:00", "notice": "30s"}),
        ("a|up|1:00:00|1|8|9000|gpu:2\nb|up|2:00:00|1|8|9000|(null)\n", {"partition": "a", "gpu_type": ""}),
        ("", {"partition": "", "time": "1h"}),
    ],
)
def test_site_files_of_other_clusters(nodes: str, said: dict[str, object], tmp_path: Path) -> None:
    write_site(facts(nodes=nodes), tmp_path / "site.yaml")
    slurm = load_cluster(str(tmp_path / "site.yaml")).slurm
    assert {key: getattr(slurm, key) for key in said} == said


def test_a_name_that_must_not_reach_a_script(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="slurm.partition"):
        write_site(facts(nodes="a;b*|up|1:00:00|1|8|9000|(null)\n"), tmp_path / "site.yaml")
    assert not any(tmp_path.iterdir())


def test_remarks() -> None:
    told = "\n".join(remarks(facts()))
    for words in (
        "KillWait 30 s",
        "keep their memory",
        "JobRequeue 0",
        "1000 trainings",
        "no accounting",
    ):
        assert words in told
    assert "may need more" not in told
    short = CONFIG.replace("30 sec", "10 sec").replace("select/cons_tres", "select/linear")
    assert "may need more" in "\n".join(remarks(facts(short)))
    assert "gpu_request: gres" in site_text(facts(short))


def test_there_is_no_cluster_to_describe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "--write", str(tmp_path / "site.yaml")]) == 2
    assert "there is no SLURM" in capsys.readouterr().err


def test_the_example_is_a_site() -> None:
    site = load_cluster("example")
    assert site.slurm.partition == "gpu" and "--output.folder" in site.recipe
