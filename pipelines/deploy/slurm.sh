#!/usr/bin/env bash
# A run on several nodes of a Slurm cluster, from a checkout in a folder that all of them see:
#
#   make setup                                   # once; with ENGINE=vllm on a GPU node
#   sbatch --nodes=4 --gpus-per-node=8 pipelines/deploy/slurm.sh --lang sw --config node8
#
# What follows the script is for pipelines.generate; runs/ is the checkout's. Ray starts on every
# node, the command runs on the first. A node that is lost is done without; where it is the first,
# Slurm queues the job again, and the run goes on from what it has finished.
#SBATCH --job-name=mbegu
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --no-kill
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?give this script to sbatch}"
export PATH="$PWD/.venv/bin:$PATH" LC_ALL=C.UTF-8 PYTHONUTF8=1 RAY_USAGE_STATS_ENABLED=0
if [ "$#" -eq 0 ]; then
  echo "What is to be made? sbatch --nodes=4 $0 --lang sw [--config …]" >&2
  exit 2
fi

# Others reach these nodes, too: without the token nobody sends this cluster work.
umask 077
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$PWD/.ray-token-$SLURM_JOB_ID"
python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$head:$((20000 + SLURM_JOB_ID % 10000))" # a port of this job's own
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
srun --no-kill --kill-on-bad-exit=0 \
  ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
  env RAY_ADDRESS="$address" python -m pipelines.generate "$@"
