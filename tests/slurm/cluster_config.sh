# Sourced by cluster.sh: slurm.conf and what goes with it, from the options in nodes, accounting,
# proctrack, gpus and settings; the ports taken lie in the array ports afterwards.
# shellcheck shell=bash disable=SC2154

free_ports() { # free_ports N: below the range from which the kernel takes ports for connections
    local port
    ports=()
    while ((${#ports[@]} < $1)); do
        port=$((12000 + RANDOM % 20000))
        [[ " ${ports[*]} " != *" $port "* ]] || continue
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || ports+=("$port")
    done
}

write_config() {
    local host count last listen=""
    host=$(hostname -s)
    free_ports $((3 + nodes))
    {
        cat <<CONF
ClusterName=sokhan
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits as long as credentials live; 120 s unless said.
AuthInfo=socket=$folder/munge.socket,cred_expire=15
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
# Apart from those of clusters beside this one: cgroups are named by node and job.
FirstJobId=$((RANDOM * 30 + 1))
ProctrackType=proctrack/$proctrack
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=10
MinJobAge=300
SlurmdTimeout=300
MessageTimeout=30
TCPTimeout=10
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,requeue_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MaxArraySize=2001
JobAcctGatherType=jobacct_gather/linux
CONF
        # Only on the loopback address, where this machine's name stands for it.
        [[ $(getent ahostsv4 "$host" | head -n 1) != 127.* ]] ||
            listen="CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"
        echo "$listen"
        [[ $accounting == 0 ]] || cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=${ports[1]}
AccountingStoragePass=$folder/munge.socket
CONF
        [[ $gpus == 0 ]] || echo "GresTypes=gpu"
    } >"$SLURM_CONF.new"
    for setting in "${settings[@]}"; do
        grep -v "^${setting%%=*}=" "$SLURM_CONF.new" >"$SLURM_CONF.set" || true
        echo "$setting" >>"$SLURM_CONF.set"
        mv "$SLURM_CONF.set" "$SLURM_CONF.new"
    done
    for ((count = 1; count <= nodes; count++)); do
        mkdir -p "$folder/spool/n$count"
        echo "NodeName=n$count NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[2 + count]}" \
            "CPUs=8 RealMemory=65536$([[ $gpus == 0 ]] || echo " Gres=gpu:$gpus")"
    done >>"$SLURM_CONF.new"
    cat >>"$SLURM_CONF.new" <<CONF
PartitionName=low Nodes=ALL Default=YES MaxTime=2-00:00:00 PriorityTier=1 GraceTime=0 State=UP
PartitionName=high Nodes=ALL MaxTime=2-00:00:00 PriorityTier=10 PreemptMode=OFF State=UP
CONF
    mv "$SLURM_CONF.new" "$SLURM_CONF"
    [[ $proctrack != cgroup ]] || echo "CgroupAutomount=no" >"$folder/cgroup.conf"
    if [[ $gpus != 0 ]]; then
        last=$((gpus - 1))
        for ((count = 0; count < gpus; count++)); do : >"$folder/gpu$count"; done
        echo "Name=gpu File=$folder/gpu[0-$last]" >"$folder/gres.conf"
    fi
    [[ $accounting == 0 ]] || (
        umask 077
        cat >"$folder/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=${ports[1]}
SlurmUser=root
LogFile=$folder/log/slurmdbd.log
PidFile=$folder/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=${ports[2]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
$listen
CONF
    )
}
