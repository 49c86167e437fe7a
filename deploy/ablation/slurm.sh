#!/usr/bin/env bash
# A study as an array of Slurm jobs on a shared file system:
#
#   array=$(sbatch --parsable deploy/ablation/slurm.sh)
#   sbatch --dependency=afterany:$array --wrap 'veilray ablate report runs/ablation/latent-size-full'
#
# All jobs share one cache and one folder; a stage that two of them need is done by one, the other waits. A job that is killed or
# runs out of time is continued by submitting the array again.
#SBATCH --job-name=veilray-ablate
#SBATCH --array=0-7
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=16
#SBATCH --mem=96G
#SBATCH --time=48:00:00
#SBATCH --signal=B:INT@300
set -euo pipefail

# A build with `--features train/cuda`; `--set run.device=flex` trains on the CPU.
exec veilray ablate --config configs/ablation/latent-size-full.toml \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --cache runs/ablation/cache --out runs/ablation/latent-size-full \
    --set run.device=cuda
