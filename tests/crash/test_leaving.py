"""A process ends while another one, which was perhaps stopped, keeps the writers' lock.

What lives here: that its end does not wait for ever, and what the next start finds. What does not:
the lock while processes go on (`test_disk.py`). The judges are the jobs' own effects.
"""

from __future__ import annotations

from embedded_tasks.processes import WritersLock, processes_folder
from tests.crash.harness import Place, now, wait_until

GRACE, WAIT = 0.5, 0.5


def test_a_process_ends_although_another_one_keeps_the_writers_lock(place: Place) -> None:
    worker = place.worker(store_wait=WAIT, shutdown_grace=GRACE)
    worker.ask("enqueue", task="work", keys=["long"], args=[600.0])
    place.wait_for("started", ["long"])
    lock = WritersLock(processes_folder(place.file))
    with lock:
        # The job is interrupted, and that cannot be stored.
        begun = now()
        worker.leave()
        print(f"\nended {now() - begun:.1f} s after it was told to")
    lock.close()
    assert place.is_sound()
    again = place.worker()
    wait_until(lambda: place.keys("started")["long"] == 2, "it goes on at the next start")
    assert place.rows("SELECT crashes FROM jobs") == [(0,)]
    again.kill()


def test_a_process_that_only_enqueues_ends_although_another_one_keeps_the_lock(
    place: Place,
) -> None:
    worker = place.worker(run=False, store_wait=WAIT)
    worker.ask("enqueue", task="work", keys=["a"], args=[0.01])
    lock = WritersLock(processes_folder(place.file))
    with lock:
        worker.leave()
    lock.close()
    again = place.worker()
    place.wait_for("ended", ["a"])
    assert place.is_sound()
    again.leave()
