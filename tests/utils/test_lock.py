"""One job has a folder, whatever starts, ends or is killed at the same time; the others are told who has it."""

import json
import multiprocessing
import os
import platform
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from ddpm_lightning.utils import lock
from ddpm_lightning.utils.atomic import remove_partials
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.lock import NAME, Owner, check, hold, holder

fork = multiprocessing.get_context("fork")
pytestmark = pytest.mark.skipif(lock.fcntl is None, reason="needs fcntl")


@pytest.fixture(autouse=True)
def one_job(monkeypatch):
    """Each test is a job of its own, and so are the processes that it forks."""
    monkeypatch.delenv(lock.VARIABLE, raising=False)
    monkeypatch.setattr(lock, "_held", [])


def in_process(function, *arguments):
    process = fork.Process(target=function, args=arguments)
    process.start()
    return process


def holds(folder, ready, seconds=60.0):
    with hold(folder):
        ready.set()
        time.sleep(seconds)


@pytest.fixture
def rival(tmp_path):
    """Another process that has the folder."""
    ready = fork.Event()
    process = in_process(holds, tmp_path, ready)
    assert ready.wait(20)
    yield process
    process.kill()
    process.join()


def foreign(folder, **changes):
    """Writes the record of a process that does not exist here, as another machine would."""
    owner = replace(lock._myself(), process=2**22 + 1, started=1, token="0" * 16, command="train", **changes)
    (folder / NAME).write_text(json.dumps(asdict(owner)))
    return owner


def test_a_folder_is_made_and_given_back(tmp_path):
    folder = tmp_path / "new" / "run"
    with hold(folder):
        owner = holder(folder)
        assert (owner.process, owner.host, owner.state) == (os.getpid(), platform.node(), "alive")
    assert os.listdir(tmp_path) == []
    with hold(folder):
        (folder / "result").touch()
    assert os.listdir(folder) == ["result"] and lock.VARIABLE not in os.environ
    with pytest.raises(KeyError), hold(folder):
        raise KeyError
    assert os.listdir(folder) == ["result"]


def test_the_others_learn_who_has_it(tmp_path, rival):
    with pytest.raises(UserError) as caught, hold(tmp_path):
        pytest.fail("two have it")
    text = str(caught.value)
    assert all(part in text for part in (str(tmp_path), f"process {rival.pid}", platform.node(), "since 20"))
    assert os.listdir(tmp_path) == [NAME] and holder(tmp_path).process == rival.pid


def test_what_a_killed_process_had_is_free(tmp_path, rival):
    rival.kill()
    time.sleep(0.2)  # it is a zombie: nobody has waited for it
    assert holder(tmp_path).state == "dead"
    with hold(tmp_path):
        assert holder(tmp_path).process == os.getpid()


def test_the_number_of_a_process_may_be_given_again(tmp_path):
    foreign(tmp_path)
    owner = replace(holder(tmp_path), process=os.getpid(), started=lock._started(os.getpid()) - 1)
    (tmp_path / NAME).write_text(json.dumps(asdict(owner)))
    with hold(tmp_path):
        assert holder(tmp_path).token != owner.token


@pytest.mark.parametrize("change", [{"host": "other"}, {"boot": "another start"}, {"namespace": 7}])
def test_another_machine_is_never_assumed_dead(tmp_path, change, capsys):
    owner = foreign(tmp_path, **change)
    with pytest.raises(UserError, match="force=true") as caught, hold(tmp_path):
        pytest.fail("taken")
    assert owner.host in str(caught.value) and holder(tmp_path) == owner
    with hold(tmp_path, force=True):
        assert holder(tmp_path).process == os.getpid()
    assert "force=true" in capsys.readouterr().err and os.listdir(tmp_path) == []


def test_whoever_lost_a_folder_notices_before_it_writes(tmp_path):
    def taken():
        lock._held.clear()
        os.environ.pop(lock.VARIABLE)
        with hold(tmp_path, force=True):
            ready.set()
            time.sleep(60)

    ready = fork.Event()
    with hold(tmp_path):
        check(tmp_path / "checkpoints" / "last.ckpt")
        process = in_process(taken)
        assert ready.wait(20)
        check(tmp_path.parent)
        with pytest.raises(UserError, match=f"taken over by process {process.pid}"):
            check(tmp_path / "checkpoints" / "last.ckpt")
    assert holder(tmp_path).process == process.pid, "given back by the one who has it"
    process.kill()
    process.join()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"host": "x"}', "[" * 5000, "\x00" * 9])
def test_an_unreadable_lock_is_not_taken_over(tmp_path, content):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(UserError, match="does not name its owner"), hold(tmp_path):
        pytest.fail("taken")
    assert (tmp_path / NAME).read_text() == content
    with hold(tmp_path, force=True):
        assert holder(tmp_path).process == os.getpid()


def test_no_link_is_followed(tmp_path):
    (tmp_path / NAME).symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="not a lock file"), hold(tmp_path):
        pytest.fail("taken")
    assert os.listdir(tmp_path) == [NAME]


def test_what_a_file_says_is_printed_without_control_characters(tmp_path):
    foreign(tmp_path, host="\x1b[31mred\nsecond line")
    with pytest.raises(UserError) as caught, hold(tmp_path):
        pytest.fail("taken")
    assert "\x1b" not in str(caught.value) and "[31mredsecond line" in str(caught.value)


def test_processes_of_one_job_share_it(tmp_path):
    program = (
        "import sys; from ddpm_lightning.utils.lock import hold, holder\n"
        "with hold(sys.argv[1]) as token: assert holder(__import__('pathlib').Path(sys.argv[1])).token == token"
    )
    with hold(tmp_path) as token, hold(tmp_path) as again:
        assert token == again
        assert subprocess.run([sys.executable, "-c", program, tmp_path]).returncode == 0
        assert os.listdir(tmp_path) == [NAME]
        stranger = {key: value for key, value in os.environ.items() if key != lock.VARIABLE}
        refused = subprocess.run([sys.executable, "-c", program, tmp_path], env=stranger, capture_output=True)
        assert refused.returncode == 1 and b"is in use" in refused.stderr
        assert holder(tmp_path).token == token
    assert os.listdir(tmp_path) == []


def test_a_folder_is_taken_when_the_last_process_of_a_killed_job_has_ended(tmp_path):
    """The first process is killed, and another one of its job continues for a while."""
    ready, ended = [fork.Event(), fork.Event()], fork.Event()

    def first():
        with hold(tmp_path) as token:
            lock._held.clear()
            in_process(second, token)
            ready[0].set()
            time.sleep(60)

    def second(token):
        with hold(tmp_path, token=token):
            ready[1].set()
            time.sleep(1.5)
            ended.set()

    process = in_process(first)
    assert all(event.wait(20) for event in ready)
    process.kill()
    process.join()
    with hold(tmp_path):
        assert ended.is_set()


def test_processes_that_do_not_end_are_named(tmp_path, rival, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.3)
    monkeypatch.setattr(Owner, "state", "dead")
    with pytest.raises(UserError, match=f"started by process {rival.pid}"), hold(tmp_path):
        pytest.fail("taken")


def test_where_there_are_no_locks_of_the_system_nothing_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_flock", lambda descriptor, exclusive: None)
    foreign(tmp_path)
    with pytest.raises(UserError, match="force=true"), hold(tmp_path):
        pytest.fail("taken")


def test_where_there_are_no_links_a_folder_is_taken_all_the_same(tmp_path, monkeypatch):
    def no_link(*_):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "link", no_link)
    with hold(tmp_path):
        assert holder(tmp_path).process == os.getpid() and os.listdir(tmp_path) == [NAME]
        monkeypatch.delenv(lock.VARIABLE)
        with pytest.raises(UserError, match="is in use"), hold(tmp_path):
            pytest.fail("two have it")


def test_a_folder_that_cannot_be_written_to(tmp_path):
    """The message names the file that is in the way, or what links to nothing."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere/at/all")
    for name, culprit in (("file", "file"), ("file/run", "file"), ("file/a/run", "file"), ("link", "link")):
        found = f"{tmp_path / name}: cannot be written to \\({tmp_path / culprit} is not a folder\\)"
        with pytest.raises(UserError, match=found), hold(tmp_path / name):
            pytest.fail("held")
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "link"}


@pytest.mark.parametrize("links", [True, False])
def test_a_folder_that_another_job_removes_meanwhile(tmp_path, monkeypatch, links):
    """A job that ends removes what it left unfinished, and the folder if it is empty."""
    folder, link, removed = tmp_path / "run", os.link, []

    def remove_first(source, target):
        if not removed:
            removed.append(source)
            os.unlink(source)
            os.rmdir(folder)
        if not links:
            raise PermissionError(1, "not permitted")
        link(source, target)

    monkeypatch.setattr(os, "link", remove_first)
    with hold(folder):
        assert removed and holder(folder).process == os.getpid() and os.listdir(folder) == [NAME]
    assert not folder.exists()


def rush(folder, log, start, seed):
    """Takes the folder again and again; while it is held, nobody else may enter."""
    lock._held.clear()
    os.environ.pop(lock.VARIABLE, None)
    rng = random.Random(seed)
    start.wait()
    for _ in range(12):
        try:
            with hold(folder):
                remove_partials([folder])
                inside = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
                time.sleep(rng.uniform(0, 0.01))
                if rng.random() < 0.3:
                    (folder / "inside").unlink()
                    os.kill(os.getpid(), signal.SIGKILL)
                os.close(inside)
                (folder / "inside").unlink()
                log.put("had it")
        except UserError as error:
            assert "is in use" in str(error), error
            time.sleep(rng.uniform(0, 0.02))
        except BaseException as error:
            log.put(repr(error))
            raise


@pytest.mark.timeout(120)
@pytest.mark.parametrize("links", [True, False])
def test_many_that_start_at_once_and_die_inside(tmp_path, links, monkeypatch):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
    folder, log, start = tmp_path / "run", fork.SimpleQueue(), fork.Event()
    for round_number in range(3):
        start.clear()
        processes = [in_process(rush, folder, log, start, 100 * round_number + n) for n in range(8)]
        start.set()
        for process in processes:
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
    said = []
    while not log.empty():
        said.append(log.get())
    assert set(said) == {"had it"} and len(said) >= 3  # one in each round; how many more depends on the load
    with hold(folder):
        remove_partials([folder])
        assert os.listdir(folder) == [NAME]


def test_one_of_many_takes_what_a_dead_one_had(tmp_path):
    """All find the same dead owner at the same moment: one takes the folder, and keeps it."""

    def take(start, results, done):
        start.wait()
        try:
            with hold(tmp_path):
                results.put(os.getpid())
                done.wait(20)
        except UserError as error:
            results.put(str(error))

    for _ in range(10):
        foreign(tmp_path)
        start, results, done = fork.Event(), fork.SimpleQueue(), fork.Event()
        processes = [in_process(take, start, results, done) for _ in range(6)]
        start.set()
        answers = [results.get() for _ in processes]
        done.set()
        for process in processes:
            process.join()
        winners = [answer for answer in answers if isinstance(answer, int)]
        assert len(winners) == 1
        assert all(f"process {winners[0]}" in answer for answer in answers if isinstance(answer, str))
        assert os.listdir(tmp_path) == []
