"""A daemon under check: what it is asked, what it answers and what it logs."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.hardware.programs import PATIENCE, Program
from tests.hardware.transcript import Transcript, alive, until

LINE = re.compile(r"\[\S+ \S+ (\w+) +(\d+)\] (.*)")
NEW_SERVER = re.compile(r"Starting new server (\d+)")
NEWLINE = "\n"
EXITED = re.compile(r"Server \d+ exited with status")
RETRY = re.compile(r"Server \d+ has \d+ active worker|Control will try shutting down")
TALK = ("Accepting connection...", "NEW UI", "UI closed")


class Daemon:
    """A running daemon, which writes its log to a file."""

    def __init__(self, out: Transcript, command: list[str], folder: Path, extra: str = "") -> None:
        self._out = out
        self._shell = command[0]
        self.pipe, self.logs = folder / "pipe", folder / "logs"
        for path in (folder, self.pipe, self.logs):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        self.environment = {
            **os.environ,
            "CUDA_MPS_PIPE_DIRECTORY": f"{self.pipe}{extra}",
            "CUDA_MPS_LOG_DIRECTORY": str(self.logs),
        }
        self.clients: list[Program] = []
        self._file = folder / "log"
        self._offset = self._file.stat().st_size if self._file.exists() else 0
        self._seen = 0
        self._rest: list[tuple[str, str, str]] = []
        begun = time.monotonic()
        with self._file.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        out.name(self.process.pid, "DAEMON")
        until(lambda: self._started() or self.process.poll() is not None, out.patience)
        out.say(f"~ socket after {(time.monotonic() - begun) * 1e3:.0f} ms")

    @property
    def socket(self) -> Path:
        """The path of the daemon's socket."""
        return Path(self.environment["CUDA_MPS_PIPE_DIRECTORY"]) / "control"

    def _started(self) -> bool:
        """Whether it listens: a former daemon may have left its socket."""
        return self.socket.exists() and any("binary version" in entry[2] for entry in self.log())

    def log(self) -> list[tuple[str, str, str]]:
        """Return who logged what so far: kind, PID and text."""
        raw = self._file.read_bytes()[self._offset :].decode(errors="replace")
        found = []
        for line in raw.splitlines():
            parts = LINE.fullmatch(line)
            entry = (parts[1], parts[2], parts[3]) if parts else ("", "", line)
            found.append(entry)
            if new := NEW_SERVER.match(entry[2]):
                self._out.server(int(new[1]))
        return found

    def ask(self, command: str, *arguments: str, quiet: bool = False) -> str:
        """Send a line, and write down what comes; *quiet*: write nothing. Return stdout."""
        begun = time.monotonic()
        done = self._run([self._shell, *arguments], command)
        took = time.monotonic() - begun
        logged = self._logged()
        if not quiet:
            self._out.quote(f"$ {' '.join([*arguments, command.strip().replace(NEWLINE, '; ')])}")
            self._write(done, [text for _, _, text in logged], took)
        return done.stdout

    def _run(self, command: list[str], line: str) -> "subprocess.CompletedProcess[str]":
        with subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as shell:
            try:
                stdout, stderr = shell.communicate(line, timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                shell.kill()
                stdout, stderr = shell.communicate()
        return subprocess.CompletedProcess(command, shell.returncode, stdout, stderr)

    def _write(
        self, done: "subprocess.CompletedProcess[str]", logged: list[str], took: float
    ) -> None:
        for mark, text in (("|", done.stdout), ("!", done.stderr)):
            for line in text.splitlines():
                self._out.quote(f"{mark} {line}")
            if text and not text.endswith(NEWLINE):
                self._out.say(f"{mark} (no newline)")
        if took > 1:
            self._out.say(f"~ after {took:.1f} s")
        if done.returncode:
            self._out.say(f"exit {done.returncode}")
        elif logged != done.stdout.splitlines():
            for text in logged or ["(nothing)"]:
                self._out.quote(f"+ {text}")

    def _logged(self) -> list[tuple[str, str, str]]:
        """Wait for the end of a shell in the log; return what it said, and keep the rest."""
        mine = str(self.process.pid)

        def fresh() -> list[tuple[str, str, str]]:
            return self.log()[self._seen :]

        if self.process.poll() is None and self.socket.exists():
            until(
                lambda: (
                    ("Control", mine, "UI closed") in fresh() or self.process.poll() is not None
                ),
                self._out.patience,
            )
        entries = fresh()
        self._seen += len(entries)
        said: list[tuple[str, str, str]] = []
        inside = quits = False
        for entry in entries:
            own = entry[:2] == ("Control", mine)
            begins = own and entry[2].startswith("Cmd:")
            if own and entry[2] in TALK:
                inside = inside and entry[2] != "UI closed"
            elif begins:
                inside, quits = True, entry[2].startswith("Cmd:quit")
            elif inside and own and (quits or not EXITED.match(entry[2])):
                said.append(entry)  # only quit waits for the end of a server
            else:
                self._rest.append(entry)
        return said

    def rest(self) -> None:
        """Write down what was logged beside the commands, by process."""
        entries = self.log()[self._seen :]
        self._seen += len(entries)
        self._rest += [entry for entry in entries if entry[2] not in TALK]
        # how often the daemon tells a server to end depends on the time
        entries = [entry for entry in self._rest if not RETRY.match(entry[2])]
        for kind, pid, text in sorted(entries, key=lambda entry: self._out.called(entry[1])):
            self._out.logged(pid, kind, text)
        self._rest = []

    def server(self, *options: str) -> int:
        """Start a server, wait until it is ready, and return its PID; 0 if there is none."""
        self.ask(f"start_server {' '.join(options) or '-uid 0'}\n")
        begun = time.monotonic()
        until(lambda: self.ask("get_server_list\n", quiet=True).strip(), self._out.patience)
        self._out.say(f"~ server after {(time.monotonic() - begun) * 1e3:.0f} ms")
        found = self.ask("get_server_list\n", quiet=True).split()
        for pid in found:
            self._out.server(int(pid))
        return int(found[0]) if found else 0

    def client(
        self, command: list[str], *options: str, extra: Mapping[str, str] | None = None
    ) -> Program:
        """Start a client, and write down its first line."""
        started = Program([*command, *options], {**self.environment, **(extra or {})})
        self.clients.append(started)
        self._out.name(started.process.pid, f"CLIENT{len(self.clients)}")
        self.tell(started, " ".join(options))
        return started

    def tell(self, client: Program, what: str = "", patience: float = 0) -> None:
        """Write down the next line of a client."""
        line = client.line(patience or 2 * self._out.patience)
        said = "nothing" if line is None else line or "its end"
        name = self._out.called(client.process.pid)
        self._out.say(f"% {name} {what}".rstrip() + f": {said}")

    def status(self, server: int, wanted: str = "", seconds: float = 0) -> None:
        """Write down a server's state, or the one that it had to come to."""
        asked = f"get_server_status {server}\n"
        until(
            lambda: not wanted or self.ask(asked, quiet=True).strip() == wanted,
            seconds or self._out.patience,
        )
        self.ask(asked)

    def gone(self) -> None:
        """Wait until there is no server, and write down whether that came."""
        until(lambda: not self.ask("get_server_list\n", quiet=True).strip(), self._out.patience)
        self.ask("get_server_list\n")

    def ended(self) -> None:
        """Write down how the daemon ended, and what became of its servers and files."""
        until(lambda: self.process.poll() is not None, self._out.patience)
        code = self.process.poll()
        self._out.say("DAEMON runs" if code is None else f"DAEMON ended with {code}")
        gone = until(lambda: not any(map(alive, self._out.servers)), self._out.patience)
        self._out.say(f"servers {'ended' if gone else 'live'}")
        if self.pipe.exists():
            self._out.say(f"files: {' '.join(sorted(path.name for path in self.pipe.iterdir()))}")
        self.rest()

    def close(self) -> None:
        """End everything that was started."""
        for client in self.clients:
            client.end(kill=True)
        self.process.kill()
        self.process.wait(PATIENCE)
        for server in self._out.servers:
            if not until(lambda pid=server: not alive(pid), 2):  # type: ignore[misc]
                os.kill(server, signal.SIGKILL)
