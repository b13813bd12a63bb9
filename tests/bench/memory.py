"""The most memory that a program held while it ran."""

import threading

import psutil

POLL_S = 0.5


class Memory(threading.Thread):
    """Watches a process and those below it until `stop`; in MB, shared pages left out of the sum.

    Args:
        named: what the command of a process below has in it, to be counted.
    """

    def __init__(self, pid: int | None = None, named: str = "") -> None:
        super().__init__(daemon=True)
        self.driver = 0.0  # of the process itself
        self.together = 0.0
        self._process = psutil.Process(pid)
        self._named = named
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(POLL_S):
            try:
                self._look()
            except psutil.Error:
                continue  # it has just ended

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _look(self) -> None:
        held = self._process.memory_info()
        self.driver = max(self.driver, held.rss / 2**20)
        together = held.rss - held.shared
        for child in self._process.children(recursive=True):
            try:
                if self._named in " ".join(child.cmdline()):
                    found = child.memory_info()
                    together += found.rss - found.shared
            except psutil.Error:
                continue
        self.together = max(self.together, together / 2**20)
