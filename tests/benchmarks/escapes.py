"""The escape suite: what code in a worker or a foreign engine can do that it must not, level by
level (``engine`` and ``engine-none`` are a confined engine and one that is not).

    python tests/benchmarks/escapes.py LEVEL [WITHOUT]  one level as this user, as JSON; WITHOUT:
                                                        as if the kernel lacked landlock, seccomp,
                                                        namespaces (any of them, with spaces)
    python tests/benchmarks/escapes.py --write          every level and user this machine has, as
                                                        results/published/benchmarks/sandbox_*.md

Each attempt is real: it has succeeded only when it returns something true, which the level
``none`` is there to show. Needs nothing but the standard library and rlm_eval.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.escape_attempts import ATTEMPTS, ENGINES_OWN, IN_ENGINE, PREAMBLE
from rlm_eval.errors import ConfigError
from rlm_eval.methods.foreign.process import PYTHON, running, why_not_confined
from rlm_eval.repl import linux
from rlm_eval.repl.session import ReplSession, Sandbox

CANARY = "sk-canary-0123456789abcdef"
#: A level, and what the kernel is made to lack for it.
LEVELS = (
    ("auto", ""),
    ("landlock", ""),
    ("auto", "landlock"),
    ("bwrap", ""),
    ("bwrap", "landlock"),
    ("seatbelt", ""),
    ("engine", ""),
    ("none", ""),
    ("engine-none", ""),
)
#: Known to be open; the policy's docstring says so.
ACCEPTED = {"landlock+seccomp": {"stat of a secret file"}}
ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def surroundings() -> Iterator[dict[str, object]]:
    """What there is to reach: secrets, listeners, this process. Yields names for the attempts."""
    here = tempfile.mkdtemp(prefix="rlm-escape-")
    secret = os.path.join(here, "secret")
    victims = [os.path.join(here, name) for name in ("victim", "victim1", "victim2")]
    for path in (secret, *victims):
        Path(path).write_text("secret")
    abstract, datagram = f"\0rlm-escape-{os.getpid()}", f"\0rlm-escape-dgram-{os.getpid()}"
    unix = os.path.join(here, "unix")
    with contextlib.ExitStack() as stack:
        sockets = {
            name: stack.enter_context(socket.socket(family, kind))
            for name, family, kind in (
                ("tcp", socket.AF_INET, socket.SOCK_STREAM),
                ("udp", socket.AF_INET, socket.SOCK_DGRAM),
                ("unix", socket.AF_UNIX, socket.SOCK_STREAM),
                ("abstract", socket.AF_UNIX, socket.SOCK_STREAM),
                ("datagram", socket.AF_UNIX, socket.SOCK_DGRAM),
            )
        }
        addresses = {"unix": unix, "abstract": abstract, "datagram": datagram}
        for name, sock in sockets.items():
            sock.bind(addresses.get(name, ("127.0.0.1", 0)))
            if name in ("tcp", "unix", "abstract"):
                sock.listen()
        yield {
            "CANARY": CANARY,
            "HARNESS": os.getpid(),
            "SECRET": secret,
            "VICTIM": victims[0],
            "HERE": here,
            "SOURCE": str(ROOT / "rlm_eval" / "errors.py"),
            "PACKAGES": str(Path(contextlib.__file__).parent / "site-packages"),
            "TOKEN": os.path.basename(here) + ".seen",
            "TCP": sockets["tcp"].getsockname()[1],
            "UDP": sockets["udp"].getsockname()[1],
            "UNIX": unix,
            "ABSTRACT": abstract,
            "DATAGRAM": datagram,
        }
    for place in ("/tmp", "/dev/shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(place, os.path.basename(here) + ".seen"))
    shutil.rmtree(here)


def preamble(names: dict[str, object]) -> str:
    return "\n".join([*(f"{name} = {value!r}" for name, value in names.items()), PREAMBLE])


def asked_here(outcome: str, body: str, names: dict[str, object]) -> str:
    """The same, where only this process can tell whether an attempt succeeded."""
    if outcome != "open" or "ask the harness" not in body:
        return outcome
    place = "/dev/shm" if "/dev/shm" in body else "/tmp"
    seen = os.path.exists(os.path.join(place, str(names["TOKEN"])))
    return "open" if seen else "blocked: a directory of its own"


def run_engine(level: str) -> dict[str, object]:
    """Every attempt in a foreign engine. Raises ConfigError."""
    if level == "engine" and (reason := why_not_confined()):
        raise ConfigError(f"this machine can't isolate model-written code ({reason}). To run it")
    os.environ["RLM_CANARY_KEY"] = CANARY
    with surroundings() as names:
        code = f"{preamble({**names, 'FILTERED': False})}\nATTEMPTS = {ATTEMPTS!r}\n{IN_ENGINE}"
        readable = [] if level == "engine" else None
        command = ["/bin/sh", "-c", f'exec {PYTHON} -P "$ATTEMPTS"']
        with running(command, {"ATTEMPTS": code}, {"PATH": "/usr/bin:/bin"}, readable) as engine:
            engine.listener()
            status, output, last_words = engine.wait(200)
        if status != 0:
            raise RuntimeError(f"the engine ended with {status}: {last_words}")
        found = json.loads(output.splitlines()[-1])
        outcomes = {name: asked_here(found[name], body, names) for name, body in ATTEMPTS.items()}
    return {"level": level, "uid": os.geteuid(), "outcomes": outcomes}


def attempt(session: ReplSession, body: str, names: dict[str, object]) -> str:
    """``open``, or ``blocked: why``."""
    lines = [preamble(names), "def attempt():", *(f"  {line}" for line in body.splitlines())]
    lines += ["submit('open' if (got := attempt()) else 'blocked: no effect')"]
    result = session.run("\n".join(lines))
    if result.submitted is not None:
        return asked_here(result.submitted, body, names)
    if result.interrupted:
        return f"blocked: worker {result.interrupted}"
    return f"blocked: {(result.error or '').splitlines()[-1]}"


def remove(missing: str) -> None:
    """Makes the kernel refuse, to this process and its children, what ``missing`` names."""

    def deny(number: int, argument: int = 0) -> None:
        error = (linux.RETURN, 0, 0, linux.ERRNO | errno.ENOSYS)
        allow = (linux.RETURN, 0, 0, linux.ALLOW)
        steps = [(linux.LOAD, 0, 0, 0), (linux.EQUAL, 0, 3 if argument else 1, number)]
        if argument:
            steps += [linux.argument(0), (linux.EQUAL, 0, 1, argument)]
        linux.install_filter([*steps, error, allow])

    arm = linux.MACHINE == "aarch64"
    if missing:
        linux.no_new_privileges()
    if "namespaces" in missing:
        deny(97 if arm else 272)  # unshare
    if "landlock" in missing:
        deny(444)  # landlock_create_ruleset
    if "seccomp" in missing:
        deny(167 if arm else 157, 22)  # prctl(PR_SET_SECCOMP)


def run_level(level: str) -> dict[str, object]:
    """Every attempt at one level, as the user who runs this. Raises ConfigError."""
    os.environ["RLM_CANARY_KEY"] = CANARY
    with Sandbox(level, {"block_seconds": 10}) as sandbox, surroundings() as names:
        names["FILTERED"] = "seccomp" in sandbox.level
        outcomes = {}
        with sandbox.session({}) as other, sandbox.session({}) as session:
            spinning = threading.Thread(target=other.run, args=("import time; time.sleep(0.1)",))
            spinning.start()
            for name, body in ATTEMPTS.items():
                if names["FILTERED"]:
                    outcomes[name] = attempt(session, body, names)
                    continue
                with sandbox.session({}) as own:  # what succeeds changes the worker
                    outcomes[name] = attempt(own, body, names)
            spinning.join()
        return {"level": sandbox.level, "uid": os.geteuid(), "outcomes": outcomes}


def run_as(level: str, uid: int, missing: str = "") -> dict[str, object] | str:
    """The same in another process as ``uid``; a reason where that can't be."""
    path = "" if missing and level == "auto" else os.environ["PATH"]
    environment = {"PATH": path, "PYTHONPATH": str(ROOT)}
    python = sys.executable
    if uid != os.geteuid():
        python = next((p for p in (sys.executable, "/usr/bin/python3") if _runs(p, uid)), "")
        if not python:
            return f"no Python that uid {uid} can run"
    done = subprocess.run(
        [python, __file__, level, missing],
        user=uid if uid != os.geteuid() else None,
        group=uid if uid != os.geteuid() else None,
        extra_groups=[] if uid != os.geteuid() else None,
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode == 2:
        return done.stderr.strip()
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _runs(python: str, uid: int) -> bool:
    """Whether ``uid`` can run this interpreter and read this repository with it."""
    code = "import rlm_eval.repl.session"
    try:
        done = subprocess.run(
            [python, "-c", code],
            user=uid,
            group=uid,
            extra_groups=[],
            env={"PYTHONPATH": str(ROOT)},
            cwd="/",
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def users() -> list[int]:
    """This user; as root an ordinary one too."""
    return [0, 65534] if os.geteuid() == 0 else [os.geteuid()]


def write_table() -> Path:
    """The table of every level and user this machine offers, as Markdown."""
    columns: dict[str, dict[str, str]] = {}
    missing = []
    for level, without in LEVELS:
        for uid in users():
            found = run_as(level, uid, without)
            who = "root" if uid == 0 else "user"
            if isinstance(found, str):
                reason = found.partition("model-written code (")[2].partition("). To run")[0]
                missing.append(f"- `{level}`: {reason or found}")
            else:
                outcomes: dict[str, str] = found["outcomes"]  # type: ignore[assignment]
                if level == "engine":
                    mine = {name: "its own" for name in ENGINES_OWN if outcomes[name] == "open"}
                    outcomes |= mine
                columns[f"{found['level']} ({who})"] = outcomes
    lines = [
        f"# What a worker and a foreign engine can do: {linux.MACHINE}",
        "",
        "Written by `python tests/benchmarks/escapes.py --write`, not by hand. "
        f"Linux {os.uname().release}, Landlock version {linux.landlock_abi()}, "
        f"Python {sys.version.split()[0]}. `engine` is a foreign engine's process, which may start "
        "programs and talk to itself: what it does so is `its own`, and nothing of others.",
        "",
        "| attempt | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name in ATTEMPTS:
        cells = [outcomes[name].split(":")[0] for outcomes in columns.values()]
        lines.append(
            f"| {name} | " + " | ".join(c.replace("open", "**open**") for c in cells) + " |"
        )
    blocked = [sum(o != "open" for o in outcomes.values()) for outcomes in columns.values()]
    lines.append(f"| **blocked of {len(ATTEMPTS)}** | " + " | ".join(map(str, blocked)) + " |")
    if missing:
        lines += ["", "Not on this machine, so not tested:", "", *dict.fromkeys(missing)]
    path = ROOT / "results" / "published" / "benchmarks" / f"sandbox_{linux.MACHINE}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    _, mark, rest = (path.read_text("utf-8") if path.exists() else "").partition("\n## What they")
    path.write_text("\n".join(lines) + "\n" + mark + rest, encoding="utf-8")
    return path


def main() -> int:
    if sys.argv[1:] == ["--write"]:
        print(write_table())
        return 0
    try:
        remove(" ".join(sys.argv[2:]))
        run = run_engine if sys.argv[1].startswith("engine") else run_level
        print(json.dumps(run(sys.argv[1])))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
