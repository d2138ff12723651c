#!/bin/bash
# GS-LRM on two nodes of four GPUs, through pre-emption and time limits, until it is finished:
#   sbatch examples/slurm_train.sh configs/mouse_config.yaml runs/mouse [section.key=value ...]
# The job puts itself into the queue again after each part; the same checkpoint goes on, on any number of GPUs that
# divides gslrm.run.accumulation. The folder of the run and the dataset must be seen by all nodes.
#SBATCH --job-name=mouselift
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.txt
# Five minutes before the time is over this script (B:) gets USR1, and hands it on.
#SBATCH --signal=B:USR1@300

config=$1 run=$2
shift 2
per_node=${SLURM_GPUS_ON_NODE:-1}
accumulation=${MOUSELIFT_ACCUMULATION:-$((SLURM_JOB_NUM_NODES * per_node))}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# torchrun waits for its processes to write their checkpoint; SLURM's own KillWait or the partition's GraceTime may be
# shorter when a job is pre-empted, so that checkpoint_every_s bounds what is lost.
srun --kill-on-bad-exit=1 torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$per_node" \
    --rdzv-backend=c10d --rdzv-endpoint="$head:${MOUSELIFT_PORT:-29500}" --rdzv-id="$SLURM_JOB_ID" \
    --signals-to-handle=SIGTERM,SIGINT,SIGUSR1 --shutdown-timeout=240 \
    -m mouselift.cli train gslrm --config "$config" -o "$run" \
    gslrm.run.device="${MOUSELIFT_DEVICE:-cuda}" gslrm.run.parallel=ddp gslrm.run.accumulation="$accumulation" "$@" &
step=$!

interrupted=
trap 'interrupted=yes; kill -USR1 "$step"' USR1
trap 'interrupted=yes; kill -TERM "$step"' TERM
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do  # a trap ends `wait` early
    wait "$step"
    code=$?
done

if [ -e "$run/final.safetensors" ]; then
    exit 0
fi
if [ -n "$interrupted" ]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
