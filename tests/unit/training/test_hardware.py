"""Runs use as many threads as help, and fewer on request."""

from tiedlm.arithmetic import arithmetic
from tiedlm.training import hardware


def test_omp_num_threads_can_lower_the_threads(monkeypatch):
    monkeypatch.setattr(hardware, "available_cores", lambda: 4)
    for wish, threads in (("1", 1), ("2", 2), ("16", 4), ("", 4), ("no", 4), ("0", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", wish)
        assert hardware.default_threads() == threads


def test_a_list_in_omp_num_threads_means_its_first_number_as_it_does_for_pytorch(monkeypatch):
    monkeypatch.setattr(hardware, "available_cores", lambda: 4)
    for wish, threads in (("1,1", 1), (" 1", 1), ("2 , 4", 2), ("1,", 1), (",1", 4), ("-1", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", wish)
        assert hardware.default_threads() == threads


def test_info_names_the_limit_of_the_threads(monkeypatch):
    monkeypatch.setattr(hardware, "available_cores", lambda: 1)
    monkeypatch.setattr(
        hardware.cores, "cores_and_limits", lambda: "1 of 2 cores: a CPU quota of 1"
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with arithmetic(threads=1):
        assert hardware.machine_info()["threads"].startswith(
            "1 (1 of 2 cores: a CPU quota of 1; at"
        )


def test_info_names_omp_num_threads_if_it_lowers_the_threads(monkeypatch):
    monkeypatch.setattr(hardware, "available_cores", lambda: 4)
    monkeypatch.setattr(hardware.cores, "cores_and_limits", lambda: "4 cores")
    for wish, said in (
        (" 2,1", "2 (OMP_NUM_THREADS=2,1; 4 cores; --threads overrides)"),
        ("4", "4 (4 cores; at most 8; OMP_NUM_THREADS and --threads override)"),
        ("", "4 (4 cores; at most 8; OMP_NUM_THREADS and --threads override)"),
    ):
        monkeypatch.setenv("OMP_NUM_THREADS", wish)
        assert hardware.machine_info()["threads"] == said


def test_parallel_runs_share_the_cores_and_omp_num_threads_lowers_their_threads_too(monkeypatch):
    monkeypatch.setattr(hardware, "available_cores", lambda: 4)
    for wish, at_once, threads in (("", 1, 4), ("", 2, 2), ("", 3, 1), ("", 9, 1), ("1", 1, 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", wish)
        assert hardware.threads_of_each(at_once) == threads
