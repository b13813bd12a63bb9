"""What machines have room for, counted by hand, and how a cluster that is too small is refused."""

import pytest

from sdg.cluster.room import Machine, Need, check_needs, fitting
from sdg.errors import UserError
from sdg.stage import Resources

SMALL = Machine(cpus=4, gpus=0, memory_gb=8)
FOUR = Machine(cpus=32, gpus=4, memory_gb=128)
TWO_OF_FOUR = Machine(cpus=32, gpus=4, memory_gb=128, count=2)


@pytest.mark.parametrize(
    ("wanted", "there", "num"),
    [
        (Resources(), [SMALL], 4),
        (Resources(memory_gb=3), [SMALL], 2),
        (Resources(num_gpus=1), [SMALL, FOUR], 4),
        (Resources(num_gpus=3), [FOUR, FOUR], 2),  # of the eight GPUs two are left over
        (Resources(num_gpus=8), [FOUR, FOUR], 0),  # a worker is on one machine
        (Resources(num_gpus=4), [SMALL, TWO_OF_FOUR], 2),
        (Resources(num_cpus=0.5), [SMALL, SMALL], 16),
        (Resources(num_cpus=3), [SMALL, FOUR], 1 + 10),
    ],
)
def test_each_worker_is_on_one_machine(wanted: Resources, there: list[Machine], num: int) -> None:
    assert fitting(wanted, there) == num


def refusal(*needs: Need) -> str:
    with pytest.raises(UserError) as error:
        check_needs(needs, [SMALL, FOUR, FOUR])
    return str(error.value)


def test_what_fits_is_let_through() -> None:
    check_needs([Need("a", Resources(num_gpus=4, replicas=2)), Need("b", Resources())], [FOUR] * 2)


def test_a_worker_that_no_machine_holds_is_refused_with_what_it_lacks() -> None:
    said = refusal(Need("stage infer (org/m)", Resources(num_gpus=8, memory_gb=192)))
    assert said.startswith("stage infer (org/m) needs 8 GPU, 1 CPU, 192.0 GB of memory")
    assert "the largest of 3 machines has 4 GPU, 32 CPU, 128.0 GB" in said
    assert "4 GPU, 64.0 GB of memory is missing" in said


def test_replicas_that_do_not_all_fit_are_refused_with_the_difference() -> None:
    said = refusal(Need("stage infer", Resources(num_gpus=2, replicas=7, memory_gb=0)))
    assert "7 workers of 2 GPU, 1 CPU each" in said  # 14 GPUs of which there are 8
    assert "3 machines have room for 4: 6 GPU, 3 CPU is missing" in said


def test_all_that_is_missing_is_told_at_once() -> None:
    said = refusal(Need("a", Resources(num_gpus=5)), Need("b", Resources(num_cpus=1000)))
    assert said.count("\n") == 2
    assert "a needs 5 GPU" in said and "968 CPU is missing" in said
