#!/usr/bin/env bash
# A real SLURM cluster of a few nodes on this machine, for tests: everything it writes lies in one
# folder, its ports are free ones, so several can run beside each other. Needs root and Debian's
# slurm-wlm and munge (with --accounting also slurmdbd and mariadb-server).
#
#   tests/slurm/cluster.sh start FOLDER [--nodes 2] [--accounting] [--proctrack linuxproc|cgroup]
#                                       [--gpus 4] [--min-job-age 300] [--set KEY=VALUE]...
#   tests/slurm/cluster.sh node FOLDER n2      (start one node's slurmd again)
#   tests/slurm/cluster.sh controller FOLDER   (start slurmctld again)
#   tests/slurm/cluster.sh stop FOLDER
#
# `start` prints the line `export SLURM_CONF=...` for a shell. Only /etc/hosts is changed outside of
# FOLDER: node names must resolve while jobs run. `stop` takes those lines out again.
set -euo pipefail

fail() { echo "cluster.sh: $*" >&2; exit 2; }

(($# >= 2)) || fail "give start, node, controller or stop, and a folder"
action=$1
[[ $action != stop || -d $2 ]] || exit 0
mkdir -p "$2"
folder=$(cd "$2" && pwd -P)
shift 2
export SLURM_CONF=$folder/slurm.conf
unset "${!SBATCH_@}" "${!SLURM_JOB@}" "${!SQUEUE_@}" "${!SINFO_@}"
tag="# $folder #"
# shellcheck source=tests/slurm/cluster_config.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster_config.sh"

# --- processes

daemon() { # daemon NAME COMMAND...: in a session of its own, its pid in pids/NAME
    local name=$1
    shift
    setsid "$@" </dev/null >>"$folder/log/$name.out" 2>&1 &
    echo $! >"$folder/pids/$name"
}

wait_until() { # wait_until SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2 name
    shift 2
    until "$@" >/dev/null 2>&1; do
        for name in $(ls "$folder/pids"); do
            kill -0 "$(cat "$folder/pids/$name")" 2>/dev/null || give_up "$name ended"
        done
        ((SECONDS < end)) || give_up "$what did not start"
        sleep 0.1
    done
}

give_up() {
    tail -n 5 "$folder"/log/*.out >&2
    fail "$*"
}

# Lines "pid kind" of what runs. Daemons and step managers of this cluster hold a log of its folder
# open (their titles overwrite their environment); tasks have its SLURM_CONF and a node's name in
# theirs. A shell in which somebody exported SLURM_CONF, or that reads a log, is neither.
own_processes() {
    local path pid kind
    {
        find /proc/[0-9]*/fd -lname "$folder/log/*" 2>/dev/null || true
        grep -lzsFx "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ || true
    } | while read -r path; do
        pid=${path#/proc/}
        pid=${pid%%/*}
        kind=$(cat "/proc/$pid/comm" 2>/dev/null) || continue
        case $kind in
            munged | slurmctld | slurmscriptd | slurmd | slurmstepd | slurmdbd | mariadbd) ;;
            *) grep -qzs '^SLURMD_NODENAME=' "/proc/$pid/environ" && kind=task || continue ;;
        esac
        echo "$pid $kind"
    done | sort -u
}

end_all() { # end_all SIGNAL KIND...: and SIGKILL to those that stay
    local signal=$1 end=$((SECONDS + 5)) pids
    shift
    while pids=$(own_processes | grep -E " ($(IFS='|' && echo "$*"))\$" | cut -d' ' -f1); do
        # shellcheck disable=SC2086
        kill "-$signal" $pids 2>/dev/null || true
        sleep 0.1
        ((SECONDS < end)) || signal=KILL
        ((SECONDS < end + 5)) || fail "these do not end: ${pids//$'\n'/ }"
    done
}

stop() {
    hosts_without_own
    # Controller and nodes first, so that nothing is started or requeued while the rest ends.
    end_all TERM slurmctld slurmd
    end_all KILL slurmscriptd slurmstepd task
    end_all TERM munged slurmdbd mariadbd
    rm -rf "$folder/pids"
}

# --- names of nodes

edit_hosts() { # edit_hosts LINES: own lines out, LINES in. No rename: in a container it is a mount
    (
        flock 9
        local others
        others=$(grep -vF "$tag" /etc/hosts || true)
        printf '%s\n' "$others" ${1:+"$1"} >/etc/hosts
    ) 9</etc/hosts
}

hosts_without_own() { ! grep -qsF "$tag" /etc/hosts || edit_hosts ""; }

# --- daemons

start_munge() {
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    # --force: a folder that only root may enter is fine here, munged wants it open to all.
    daemon munged munged --foreground --force --key-file="$folder/munge.key" \
        --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed"
}

start_database() {
    mariadb-install-db --no-defaults --user=root --datadir="$folder/db" --skip-test-db \
        --auth-root-authentication-method=normal >"$folder/log/install-db.log" 2>&1
    printf '%s;\n' "create database slurm_acct_db" \
        "create user slurm@localhost identified by 'slurm'" \
        "grant all on slurm_acct_db.* to slurm@localhost" >"$folder/init.sql"
    daemon mariadbd mariadbd --no-defaults --user=root --datadir="$folder/db" \
        --socket="$folder/db.socket" --bind-address=127.0.0.1 --port="${ports[2]}" \
        --innodb-buffer-pool-size=64M --innodb-log-file-size=16M \
        --innodb-flush-log-at-trx-commit=0 --pid-file="$folder/mariadbd.pid" \
        --init-file="$folder/init.sql"
}

start_accounting() {
    wait_until 30 mariadbd mariadb --no-defaults -h 127.0.0.1 -P "${ports[2]}" -u slurm -pslurm \
        -e "select 1" slurm_acct_db
    daemon slurmdbd slurmdbd -D
    wait_until 30 slurmdbd sacctmgr -n list cluster
    sacctmgr -i add cluster sokhan >/dev/null
    sacctmgr -i add account default >/dev/null
    sacctmgr -i add user root account=default >/dev/null
}

start_controller() { daemon slurmctld slurmctld -D -f "$SLURM_CONF"; }

start_node() { daemon "slurmd-$1" slurmd -D -N "$1" -f "$SLURM_CONF"; }

# sinfo alone tries for half a minute where no controller answers.
all_idle() { [[ $(timeout 5 sinfo -h -p low -t idle -o %D) == "$nodes" ]]; }

start() {
    local count lines=""
    nodes=2 accounting=0 proctrack=linuxproc gpus=0 settings=()
    while (($#)); do
        case $1 in
            --nodes) nodes=$2 && shift 2 ;;
            --accounting) accounting=1 && shift ;;
            --proctrack) proctrack=$2 && shift 2 ;;
            --gpus) gpus=$2 && shift 2 ;;
            --min-job-age) settings+=("MinJobAge=$2") && shift 2 ;;
            --set) settings+=("$2") && shift 2 ;;
            *) fail "unknown option $1" ;;
        esac
    done
    [[ $(id -u) == 0 ]] || fail "needs root"
    # Paths of sockets may have 107 characters.
    ((${#folder} <= 70)) || fail "take a shorter path than $folder"
    [[ -z $(own_processes) ]] || fail "a cluster runs in $folder already"
    rm -rf "${folder:?}"/{state,spool,log,db,pids}
    mkdir -p "$folder"/{state,spool,log,pids}
    chmod 755 "$folder"
    trap 'stop; echo "cluster.sh: the cluster did not start; logs: $folder/log" >&2' EXIT
    for ((count = 1; count <= nodes; count++)); do lines+="127.0.0.1 n$count $tag"$'\n'; done
    edit_hosts "${lines%$'\n'}"
    write_config
    start_munge
    [[ $accounting == 0 ]] || { start_database && start_accounting; }
    start_controller
    for ((count = 1; count <= nodes; count++)); do start_node "n$count"; done
    wait_until 60 "the cluster" all_idle
    trap - EXIT
    echo "export SLURM_CONF=$SLURM_CONF"
}

case $action in
    start) start "$@" ;;
    stop) stop ;;
    node) start_node "$1" ;;
    controller) start_controller ;;
    *) fail "unknown action $action" ;;
esac
