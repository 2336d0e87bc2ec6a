"""Settings of a cluster: defaults <- site file <- --slurm.*; what must not reach a script is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.check_slurm import check_slurm, duration
from configs.cluster import SITE, find_site, load_cluster, split_words
from configs.errors import InputError
from configs.load import load_recipe
from configs.slurm import SlurmConfig

WriteSite = Callable[[object], str]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteSite:
    """Writes a site file and gives its path."""
    monkeypatch.delenv(SITE, raising=False)

    def write(document: object) -> str:
        path = tmp_path / "ours.yaml"
        path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        return str(path)

    return write


def test_later_wins(site: WriteSite, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_cluster().slurm == SlurmConfig() and load_cluster().name == ""
    ours = site({"slurm": {"partition": "gpu", "cpus_per_task": 12, "setup": ["module load cuda"]}})
    loaded = load_cluster(ours, ["--slurm.cpus_per_task", "6", "--slurm.time=2d"])
    assert loaded.slurm == SlurmConfig(
        partition="gpu", cpus_per_task=6, time="2d", setup=("module load cuda",)
    )
    monkeypatch.setenv(SITE, ours)
    assert load_cluster().slurm.partition == "gpu"
    assert load_cluster("example").slurm.account == "my_project"  # said is more than usual


def test_environment_is_added_to(site: WriteSite) -> None:
    ours = site({"slurm": {"environment": {"NCCL_DEBUG": "WARN", "A": "1"}}})
    more = ["--slurm.environment.NCCL_DEBUG", "INFO", "--slurm.environment.B=x=y"]
    environment = {"NCCL_DEBUG": "INFO", "A": "1", "B": "x=y"}
    assert load_cluster(ours, more).slurm.environment == environment


def test_lists_on_the_command_line() -> None:
    words = ["--slurm.setup", '["module load cuda", "ulimit -n 65536"]']
    assert load_cluster(None, words).slurm.setup == ("module load cuda", "ulimit -n 65536")


def test_shipped_sites_load_with_every_recipe_field_that_they_set() -> None:
    example = load_cluster("example")
    assert example.slurm.gpu_type == "a100" and find_site("example").is_file()
    recipe = load_recipe("demo/bert_full", example.recipe)
    assert recipe.output.folder == "/scratch/my_project/runs"
    assert recipe.tracking.wandb == "offline"


def test_recipe_fields_of_a_site(site: WriteSite) -> None:
    section = {
        "data": {"stage": "/l"},
        "output.folder": "/scratch/x",
        "tracking": {"entity": "team"},
    }
    loaded = load_cluster(site({"recipe": section}))
    assert loaded.recipe == (
        "--data.stage",
        "/l",
        "--output.folder",
        "/scratch/x",
        "--tracking.entity",
        "team",
    )
    recipe = load_recipe("demo/bert_full", [*loaded.recipe, "--output.folder", "mine"])
    assert (recipe.output.folder, recipe.data.stage) == ("mine", "/l")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("slurm: [", "not readable as YAML"),
        ("- slurm", "must be a mapping"),
        ({"slrum": {}}, "unknown key 'slrum'; a site has 'slurm' and 'recipe'"),
        ({"slurm": ["gpu"]}, "key 'slurm' is a section of keys"),
        ({"slurm": {"partitions": "gpu"}}, "unknown key 'partitions'; did you mean 'partition'?"),
        ({"slurm": {"nodes": "two"}}, "key 'slurm.nodes' cannot be two; it must be a whole number"),
        ({"slurm": {"setup": "module load cuda"}}, "key 'slurm.setup' cannot be"),
        ({"slurm": {"environment": {"A B": "1"}}}, "'A B' is no variable's name"),
        ({"slurm": {"environment": {1: "a"}}}, "1 is no variable's name"),
        ({"slurm": {"environment": {True: "a"}}}, "True is no variable's name"),
        ({"recipe": ["x"]}, "key 'recipe' is a section of keys"),
        ({"recipe": {"optim": {"lr": 1e-4}}}, "'recipe.optim.lr' is no matter of a site"),
        ({"recipe": {"seed": 1}}, "'recipe.seed' is no matter of a site"),
        ({"recipe": {"output": {"name": "run"}}}, "'recipe.output.name' is no matter of a site"),
        ({"recipe": {"data": {"shards": "x"}}}, "'recipe.data.shards' is no matter of a site"),
    ],
)
def test_wrong_site_files(document: object, message: str, site: WriteSite) -> None:
    with pytest.raises(InputError) as caught:
        load_cluster(site(document))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "ours.yaml" in str(caught.value) or "--slurm." in str(caught.value)


def test_no_such_site() -> None:
    with pytest.raises(InputError, match=r"nowhere: no such site file; .* come with sokhan: example"):
        load_cluster("nowhere")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--slurm.partitio", "x"],
            "unknown key 'slurm.partitio'; did you mean 'slurm.partition'?",
        ),
        (["--slurm.environmen.A", "x"], "unknown key 'slurm.environmen.A'"),
        (["--slurm.nodes", "two"], "key 'slurm.nodes' cannot be two; it must be a whole number"),
        (["--slurm.nodes"], "expected one argument"),
        (["--slurm.nodes", "0"], "--slurm.nodes is 0; it must be at least 1"),
        (["--slurm.failures", "-1"], "--slurm.failures is -1; it must be at least 0"),
        (["--slurm.gpus_per_task", "2"], "a rank trains on one GPU, or (0) on none"),
        (["--slurm.gpu_request", "maybe"], "key 'slurm.gpu_request' cannot be"),
        (["--slurm.time", "soon"], "'slurm.time' is 'soon'; write a time as 90m"),
        (["--slurm.time", "30s"], "--slurm.time is 30s; it must be at least a minute"),
        (["--slurm.time", "5m", "--slurm.notice", "5m"], "must be shorter than the job (5m)"),
        (["--slurm.time", "9d", "--slurm.notice", "19h"], "than 18 hours"),
        (["--slurm.container", "image.sif"], "go together"),
        (["--slurm.container_runtime", "pyxis"], "go together"),
        (["--slurm.memory", "64 GB"], "--slurm.memory is '64 GB'"),
    ],
)
def test_wrong_words(words: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_cluster(None, words)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("90m", 5400),
        ("12h", 43200),
        ("2d", 172800),
        ("12:00:00", 43200),
        ("0:01:30", 90),
        ("1-12:00:00", 129600),
        ("0s", 0),
    ],
)
def test_times(text: str, seconds: int) -> None:
    assert duration("slurm.time", text) == seconds


@pytest.mark.parametrize("text", ["", "12", "1:30", "1.5h", "-1h", "1h30m", "1 h", "1h\n", "1-2"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match="write a time as 90m, 12h, 2d or 12:00:00"):
        duration("slurm.time", text)


GOOD: dict[str, list[str]] = {
    "partition": ["gpu", "gpu-a100,gpu.h100_2"],
    "account": ["my_project", "p-1.2", "abc@a100"],
    "qos": ["high"],
    "reservation": ["week_47"],
    "constraint": ["a100", "a100|h100", "(intel&gpu)|knl", "[rack1*2,rack2*4]"],
    "nodelist": ["n1", "n[1-4,7],gpu01"],
    "exclude": ["n[1-4]"],
    "cpu_bind": ["none", "cores", "verbose,cores", "rank_ldom", "map_cpu:0,8,16", "mask_cpu:0xff,0xff00"],
    "memory": ["0", "64G", "512000M"],
    "gpu_type": ["a100", "nvidia_h100_80gb", "3g.40gb"],
    "mail_user": ["me", "first.last+jobs@example.org"],
    "mail_type": ["ALL", "END,FAIL", "TIME_LIMIT_80"],
}


@pytest.mark.parametrize("key", GOOD)
def test_names_that_clusters_have(key: str) -> None:
    for value in GOOD[key]:
        assert getattr(load_cluster(None, [f"--slurm.{key}={value}"]).slurm, key) == value


@pytest.mark.parametrize("key", [*GOOD, "container", "container_python"])
@pytest.mark.parametrize(
    "value",
    ["a b", "a'b", "a;b", "a$b", "a`b", "a\nb", "a\n", "-a", "--wrap=a", "a\\b", "٣", "\x00", " "],
)
def test_names_that_are_none(key: str, value: str) -> None:
    values: dict[str, Any] = {key: value}
    if key == "container":
        values["container_runtime"] = "pyxis"
    with pytest.raises(InputError, match=f"--slurm.{key} is "):
        check_slurm(SlurmConfig(**values))


@pytest.mark.parametrize("runtime", ["pyxis", "apptainer"])
@pytest.mark.parametrize("option", ["touch", "-c", "/bin/sh", ""])
def test_an_option_of_a_container_runtime_is_never_its_command(runtime: Any, option: str) -> None:
    config = SlurmConfig(container_runtime=runtime, container="x.sif", container_options=(option,))
    if runtime == "apptainer" and option == "-c":
        check_slurm(config)  # --contain
        return
    with pytest.raises(InputError, match=r"--slurm\.container_options holds"):
        check_slurm(config)


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "apikey",
        "PGPASSWORD",
        "MY_PASSPHRASE",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AUTH_TOKENS",
    ],
)
def test_secrets_are_refused(name: str, site: WriteSite) -> None:
    ours = site({"slurm": {"environment": {name: "canary-1"}}})
    for file, words in ((None, [f"--slurm.environment.{name}", "canary-1"]), (ours, [])):
        with pytest.raises(InputError, match=f"{name} looks like a secret") as caught:
            load_cluster(file, words)
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "export WANDB_API_KEY=canary-1",
        "HF_TOKEN='canary-1' ./log_in",
        'export A=1 MY_SECRET="canary-1"',
        "wandb login --relogin canary1",
        "huggingface-cli login --token canary-1",
        "log_in --password='canary-1'",
        "log_in hf_canary1canary1canary1",
        "curl -H 'Authorization: Bearer canary1' https://example.org",
        "git clone https://me:canary-1@example.org/x",
    ],
)
def test_secrets_in_setup_lines_are_refused(line: str, site: WriteSite) -> None:
    with pytest.raises(InputError, match="looks like a secret") as caught:
        load_cluster(site({"slurm": {"setup": [line]}}))
    assert "canary" not in str(caught.value)


def test_secrets_under_other_names_are_refused(site: WriteSite) -> None:
    for value in ("hf_canary1canary1canary1", "http://me:canary-1@proxy.example.org:8080"):
        with pytest.raises(InputError, match="looks like a secret") as caught:
            load_cluster(site({"slurm": {"environment": {"OTHER": value}}}))
        assert "canary" not in str(caught.value)


def test_a_key_that_is_left_blank_is_not_said(site: WriteSite) -> None:
    blank = {"partition": None, "time": None, "nodes": None, "setup": None, "environment": None}
    assert load_cluster(site({"slurm": blank})).slurm == SlurmConfig()


def test_setup_lines_may_read_secrets() -> None:
    """The script holds where they are, not what they are."""
    lines = [
        "export HF_TOKEN=$(cat ~/.hf)",
        'HF_TOKEN="$OTHER" log_in',
        "export A=1",
        "keychain",
        'wandb login "$(cat ~/.key)"',
        "wandb login || exit",
        "x --token $HF_TOKEN",
        "curl https://example.org:8080/a@b",
    ]
    check_slurm(SlurmConfig(setup=tuple(lines)))


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "NCCL_SOCKET_IFNAME", "OMP_NUM_THREADS"])
def test_other_variables_are_not(name: str) -> None:
    assert load_cluster(None, [f"--slurm.environment.{name}=x"]).slurm.environment == {name: "x"}


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONSAFEPATH", "SOKHAN_SUBMISSION", "SOKHAN_STATUS"])
def test_what_a_job_needs_to_find_its_code_is_not_changed(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is set by sokhan itself"):
        check_slurm(SlurmConfig(environment={name: "x"}))


def test_words_of_slurm_among_others() -> None:
    words = ["--slurm.nodes", "2", "--optim.lr", "1e-4", "--slurm.time=2h", "--seed", "1"]
    slurm = ["--slurm.nodes", "2", "--slurm.time=2h"]
    assert split_words(words) == (slurm, ["--optim.lr", "1e-4", "--seed", "1"])
