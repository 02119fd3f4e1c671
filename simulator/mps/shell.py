"""The commands of the stand-in for nvidia-cuda-mps-control, and its answers to them."""

import os
from collections.abc import Callable, Iterable
from typing import Protocol

from simulator.mps import texts
from simulator.mps.state import KnownClient, KnownServer, SetLimits
from simulator.mps.steering import Steering

CONTEXT = 1
"""A client has the contexts 0 and 1 at a server; 1 is the one that uses the GPU."""


class DaemonOrders(Protocol):
    """What a command can order of the daemon."""

    def start(self, uid: int) -> None:
        """Start a server when the shell that asked is closed."""

    def shut(self, server: KnownServer, *, force: bool) -> None:
        """Stop a server, by force or when it has no clients."""

    def query(self, server: KnownServer) -> None:
        """Ask a server for its devices."""

    def terminate(self, server: KnownServer, client: KnownClient) -> None:
        """End the client's use of the GPU."""

    def quit(self, seconds: str) -> None:
        """End the daemon after its servers; after so many seconds, if any, stop them by force."""

    def limit(self, server: KnownServer, device: str) -> None:
        """Tell a server its new memory limit."""

    def say(self, text: str) -> None:
        """Log a line."""


class CommandShell:
    """Answers commands. An answer has its newline; an empty one prints nothing."""

    def __init__(
        self, orders: DaemonOrders, steering: Steering, servers: dict[int, KnownServer]
    ) -> None:
        self.defaults = SetLimits()
        self._orders = orders
        self._steering = steering
        self._servers = servers
        self._priority = "0"
        self._commands: dict[str, Callable[..., str]] = {
            name: getattr(self, f"_{name}") for name in COMMANDS
        }

    def answer(self, line: str) -> str:
        """Do what a line says, and return the answer."""
        name, *words = line.split() or [""]
        if name not in self._commands:
            return f'Unknown command "{name}"\n'
        try:
            return self._commands[name](*words)
        except TypeError:
            self._orders.say(texts.BAD_FORMAT)
            return ""
        except LookupError as error:
            return f"{error.args[0]}\n"

    def _ignored(self, name: str) -> bool:
        orders = self._steering.fault("ignored")
        return isinstance(orders, list) and name in orders

    def _server(self, pid: str) -> KnownServer:
        for server in self._servers.values():
            if str(server.pid) == pid:
                return server
        raise LookupError(f"Server {pid} not found" if pid else texts.NO_PID)

    def _chosen(self, pid: str | None) -> Iterable[KnownServer]:
        return self._servers.values() if pid is None else [self._server(pid)]

    def _get_server_list(self) -> str:
        return "".join(f"{pid}\n" for pid in self._servers)

    def _get_server_status(self, pid: str = "") -> str:
        server = self._server(pid)
        return f"{self._steering.status or server.status}\n"

    def _start_server(self, option: str = "", uid: str = "") -> str:
        if option != "-uid" or not uid.isdigit():
            raise LookupError(texts.NO_UID)
        self._orders.start(int(uid))
        return ""

    def _shutdown_server(self, pid: str = "", option: str = "") -> str:
        self._orders.shut(self._server(pid), force=option == "-f")
        return ""

    def _get_client_list(self, pid: str = "") -> str:
        return "".join(f"{client.pid}\n" for client in self._server(pid).clients.values())

    def _get_device_client_list(self, pid: str | None = None) -> str:
        clients = [client for server in self._chosen(pid) for client in server.clients.values()]
        if not clients:
            return ""
        gpus = enumerate(self._steering.gpus())
        devices = "".join(f"[{ordinal}] 00:00.0, {gpu[1]}\n" for ordinal, gpu in gpus)
        return devices + "".join(f"{client.pid}.{CONTEXT}\n" for client in clients)

    def _ps(self, option: str = "", pid: str | None = None) -> str:
        if not self._servers:
            return "Server not found\n"
        rows = []
        device = next((gpu[0][:22] for gpu in self._steering.gpus()), "")  # it may be removed
        for server in self._chosen(pid if option == "-p" else None):
            for number, client in server.clients.items():
                cells = (str(client.pid), str(number), str(server.pid), device)
                rows.append((*cells, *_process(client.pid)))
            for number, (user, name) in enumerate(self._steering.users(), len(rows) + 1):
                cells = (str(user), str(number), str(server.pid), device)
                rows.append((*cells, "0", name))
        if not rows:
            return ""
        return "".join(f"{texts.row(r, texts.WIDTHS)}\n" for r in [texts.PROCESSES, *rows])

    def _terminate_client(self, server_pid: str = "", pid: str = "") -> str:
        try:
            server = self._server(server_pid)
        except LookupError as error:
            return f"{error.args[0]}\n{error.args[0]}!\n1\n"
        for client in server.clients.values():
            if str(client.pid) == pid:
                self._orders.terminate(server, client)
                return "0\n"
        return f"Invalid process {pid}!\n1\n"

    def _get_default_active_thread_percentage(self) -> str:
        return f"{self.defaults.percentage}\n"

    def _set_default_active_thread_percentage(self, wanted: str = "") -> str:
        name = "set_default_active_thread_percentage"
        return self._set_percentage(self.defaults, wanted, name)

    def _get_active_thread_percentage(self, pid: str = "") -> str:
        return f"{self._server(pid).settings.percentage}\n"

    def _set_active_thread_percentage(self, pid: str, wanted: str) -> str:
        settings = self._server(pid).settings
        return self._set_percentage(settings, wanted, "set_active_thread_percentage")

    def _set_percentage(self, settings: SetLimits, wanted: str, name: str) -> str:
        written = texts.percentage(wanted)
        if written is None:
            self._orders.say(texts.BAD_PERCENTAGE)
        elif self._ignored(name):
            return f"{written}\n"
        else:
            settings.percentage = written
        return f"{settings.percentage}\n"

    def _get_default_device_pinned_mem_limit(self, device: str) -> str:
        return self._get_limit(self.defaults, device)

    def _set_default_device_pinned_mem_limit(self, device: str, wanted: str) -> str:
        name = "set_default_device_pinned_mem_limit"
        self._orders.say(f"{name} {device} {wanted}.")
        return self._set_limit(self.defaults, device, wanted, name)

    def _get_device_pinned_mem_limit(self, pid: str, device: str) -> str:
        return self._get_limit(self._server(pid).settings, self._resolved(device))

    def _set_device_pinned_mem_limit(self, pid: str, device: str, wanted: str) -> str:
        server = self._server(pid)
        device = self._resolved(device)
        answer = self._set_limit(server.settings, device, wanted, "set_device_pinned_mem_limit")
        self._orders.limit(server, device)
        return answer

    def _resolved(self, device: str) -> str:
        """Return the UUID of a device: a server, unlike the daemon, keeps its limits by UUID."""
        for ordinal, gpu in enumerate(self._steering.gpus()):
            if device == str(ordinal):
                return gpu[0]
        return device

    def _get_limit(self, settings: SetLimits, device: str) -> str:
        if not texts.is_device(device):
            self._orders.say(f"Invalid device identifier format: {device}")
        elif limit := settings.limits.get(device):
            return f"{texts.limit(limit)}\n"
        else:
            self._orders.say(texts.NO_LIMIT)
        return ""

    def _set_limit(self, settings: SetLimits, device: str, wanted: str, name: str) -> str:
        if not texts.is_device(device):
            self._orders.say(f"Invalid device identifier format: {device}")
        elif not self._ignored(name):
            settings.limits[device] = texts.mebibytes(wanted)
        return ""

    def _get_default_client_priority(self) -> str:
        return f"{self._priority}\n"

    def _set_default_client_priority(self, wanted: str) -> str:
        if wanted in ("0", "1"):
            self._priority = wanted
        return ""

    def _device_query(self, *words: str) -> str:
        comma = "--csv" in words
        pids = [word for word in words if word != "--csv"]
        servers = list(self._chosen(next(iter(pids), None)))
        for server in servers:
            self._orders.query(server)
        titles = [f"Server {server.pid}" for server in servers]
        gpus = self._steering.gpus()
        tables = [texts.device_table(title, gpus, comma=comma) for title in ["Default", *titles]]
        return "\n".join(tables)

    def _quit(self, option: str = "", seconds: str = "") -> str:
        self._orders.quit(seconds if option == "-t" else "")
        return ""


COMMANDS = (
    "get_server_list",
    "get_server_status",
    "start_server",
    "shutdown_server",
    "get_client_list",
    "get_device_client_list",
    "ps",
    "terminate_client",
    "get_default_active_thread_percentage",
    "set_default_active_thread_percentage",
    "get_active_thread_percentage",
    "set_active_thread_percentage",
    "get_default_device_pinned_mem_limit",
    "set_default_device_pinned_mem_limit",
    "get_device_pinned_mem_limit",
    "set_device_pinned_mem_limit",
    "get_default_client_priority",
    "set_default_client_priority",
    "device_query",
    "quit",
)


def _process(pid: int) -> tuple[str, str]:
    """Return the PID namespace and the command of a process."""
    try:
        namespace = str(os.stat(f"/proc/{pid}/ns/pid").st_ino)
        with open(f"/proc/{pid}/cmdline") as file:
            return namespace, file.read().split("\0")[0]
    except OSError:
        return "", ""
