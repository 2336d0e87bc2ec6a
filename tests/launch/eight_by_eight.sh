#!/bin/bash

# Parameters
#SBATCH --account=my_project
#SBATCH --constraint='a100|h100'
#SBATCH --cpus-per-task=12
#SBATCH --error=/scratch/my_project/runs/bert_full/big/slurm/new/%j_0_log.err
#SBATCH --exclude='n[3-4]'
#SBATCH --exclusive
#SBATCH --export=ALL
#SBATCH --gpus-per-node=a100:8
#SBATCH --job-name=bert_full
#SBATCH --mail-type=FAIL,REQUEUE
#SBATCH --mail-user=first.last@example.org
#SBATCH --mem=960G
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=/scratch/my_project/runs/bert_full/big/slurm/new/%j_0_log.out
#SBATCH --partition=gpu,gpu_long
#SBATCH --qos=high
#SBATCH --requeue
#SBATCH --reservation=week_47
#SBATCH --signal=USR2@300
#SBATCH --time=2160

# setup
export NCCL_SOCKET_IFNAME=ib0
export NOTE='it'"'"'s "two words" of $HOME; `all`'
module load cuda
ulimit -n 65536
export PYTHONPATH=/scratch/my_project/runs/bert_full/big/slurm/new/code${PYTHONPATH:+:$PYTHONPATH}
export PYTHONSAFEPATH=1
export SOKHAN_SUBMISSION=/scratch/my_project/runs/bert_full/big/slurm/new
trap : TERM USR1 USR2 HUP
SOKHAN_ATTEMPT=$(/venv/bin/python -m launch.slurm.attempt begin) || exit
[ "$SOKHAN_ATTEMPT" ] || exit 0
export SOKHAN_ATTEMPT SOKHAN_SHELL=$$

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /scratch/my_project/runs/bert_full/big/slurm/new/%j_%t_log.out --error /scratch/my_project/runs/bert_full/big/slurm/new/%j_%t_log.err --cpus-per-task=12 --kill-on-bad-exit=1 --wait=30 --export=ALL --cpu-bind=cores /venv/bin/python -u -m submitit.core._submit /scratch/my_project/runs/bert_full/big/slurm/new


# teardown
code=$?
trap '' TERM USR1 USR2 HUP
/venv/bin/python -m launch.slurm.attempt end $code $PPID
