#!/usr/bin/env python3
"""Sets Syncdesk up in this folder and runs it; needs nothing but Python 3.11 or later with venv.

    python3 run.py demo           the main job end to end, on throw-away parts
    python3 run.py test [...]     the tests (further words go to pytest)
    python3 run.py console [...]  the console (the command ``syncdesk``; try --demo)
    python3 run.py COMMAND [...]  any command of ``syncdeskctl``

The packages of the hash-checked lock go into ``.venv`` beside this file, once.
"""

# Kept to syntax that older Pythons can read, so that they can say what is missing.
import compileall
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(HERE, ".venv")
WINDOWS = os.name == "nt"
PYTHON = os.path.join(VENV, "Scripts" if WINDOWS else "bin", "python.exe" if WINDOWS else "python")
SOURCES = ("engine", "scheduler", "gui")
# What would lead our Python to another project's packages, or make it leave out what the tests assert.
FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PYTHONOPTIMIZE", "PYTHONWARNINGS")
OLDEST = (3, 11)
NEWEST = (3, 14)

# What Qt's wheels need of the system on Linux (Debian's names), also without a screen.
QT_LIBRARIES = {
    "libglib-2.0.so.0": "libglib2.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
}


def environment():
    """The caller's environment without what would spoil ours."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN}


def stop(sentence):
    """End with one clear sentence."""
    sys.stderr.write("run.py: " + sentence + "\n")
    sys.exit(1)


def find_python():
    """This Python if it will do, else the newest fitting one on PATH."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    which = getattr(shutil, "which", lambda _: None)  # Python 2 has none
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = which("python3.%d" % minor)
        if found and answers(found):
            return found
    return stop(
        "Syncdesk needs Python 3.11 to 3.14; this is %d.%d and no other was found on PATH." % sys.version_info[:2]
    )


def answers(python):
    """Whether it runs: a version manager has names on PATH also for Pythons that it will not start."""
    try:
        return subprocess.call([python, "-c", ""], stdout=subprocess.PIPE, stderr=subprocess.PIPE) == 0
    except OSError:
        return False


def check_ground():
    """Say in a sentence where the bundled database and broker have no build for this machine."""
    machine = platform.machine().lower()
    if sys.platform.startswith("linux"):
        libc, version = platform.libc_ver()
        if libc != "glibc":
            stop("Syncdesk needs a Linux with glibc 2.28 or later; this one has another C library (musl?).")
        if tuple(int(part) for part in version.split(".")[:2]) < (2, 28):
            stop("Syncdesk needs glibc 2.28 or later; this system has %s." % version)
        fits = ("x86_64", "aarch64")
    elif sys.platform == "darwin":
        fits = ("x86_64", "arm64")
    elif WINDOWS:
        fits = ("amd64", "x86_64")
    else:
        stop("Syncdesk runs on Linux, macOS and Windows, not on %s." % sys.platform)
    if machine not in fits:
        stop("Syncdesk has no build for the processor %s on this system (only %s)." % (machine, ", ".join(fits)))


def stamp(lock):
    """What a finished set-up is known by: the lock and the Python that it was made for."""
    with open(os.path.join(HERE, lock), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest() + " " + ".".join(map(str, sys.version_info[:3])) + " " + HERE


def open_text(name, mode="r"):
    """A text file of .venv; its folder may have a name that the locale has no letters for."""
    return open(os.path.join(VENV, name), mode, encoding="utf-8", errors="surrogateescape")


def is_ready(lock):
    """Whether .venv holds what the lock names (the lock with the test tools holds the other one too)."""
    locks = {lock, "requirements-dev.lock"}
    try:
        with open_text("syncdesk-ready") as file:
            return file.read() in [stamp(name) for name in locks] and os.path.exists(PYTHON)
    except OSError:
        return False


def set_up(lock):
    """Make .venv with the packages of a lock, whole or not at all; two at once wait for each other."""
    if is_ready(lock):
        return
    with FolderLock(os.path.join(HERE, ".venv.lock")):
        if is_ready(lock):
            return
        sys.stderr.write("Setting up Syncdesk in %s (once, some minutes at most) ...\n" % VENV)
        ready = os.path.join(VENV, "syncdesk-ready")
        if os.path.exists(ready):
            os.remove(ready)
        make_venv()
        install(lock)
        link_sources()
        with open_text("syncdesk-ready", "w") as file:
            file.write(stamp(lock))


def make_venv():
    import venv

    try:
        venv.EnvBuilder(with_pip=True, clear=not fits_this_python()).create(VENV)
    except OSError as error:
        stop("cannot write %s: %s." % (VENV, error.strerror))
    except subprocess.CalledProcessError:
        stop("this Python cannot make a venv with pip; on Debian or Ubuntu: apt-get install python3-venv")


def fits_this_python():
    """Whether .venv was made here by this very Python: another one's would be left half of each, and its programs
    would name the folder where it was made."""
    told = {}
    try:
        with open_text("pyvenv.cfg") as file:
            for line in file:
                name, _, value = line.partition("=")
                told[name.strip()] = value.strip()
    except OSError:
        return False
    home = os.path.dirname(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    made_by = told.get("version", told.get("version_info", ""))
    here = "%d.%d." % sys.version_info[:2]
    same = os.path.realpath(told.get("home", "")) == home and made_by.startswith(here)
    return os.path.exists(PYTHON) and same and told.get("command", VENV).endswith(VENV)


def install(lock):
    """pip with hashes for every file; bytecode compiled, as a start without takes twice as long."""
    environ = environment()
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--require-hashes", "--compile", "-r", os.path.join(HERE, lock)]
    done = subprocess.run(command, env=environ, stderr=subprocess.PIPE, universal_newlines=True, errors="replace")
    if done.returncode:
        tail = [line for line in done.stderr.splitlines() if "ERROR" in line][-3:]
        stop(
            "the packages could not be fetched or installed (no network, or the disk is full?).\n  "
            + "\n  ".join(tail or done.stderr.splitlines()[-3:])
        )


def link_sources():
    """Let .venv find this folder's packages. The way there is relative: it has the same letters in every locale."""
    import sysconfig

    folder = sysconfig.get_path("purelib", "venv", {"base": VENV})
    with open(os.path.join(folder, "syncdesk.pth"), "w") as file:
        file.write(os.path.relpath(HERE, folder) + "\n")


def compile_sources():
    """Bytecode of our own packages, where it is missing or old (a read-only folder does without)."""
    for name in SOURCES:
        compileall.compile_dir(os.path.join(HERE, name), quiet=2)


class FolderLock:
    """An operating system lock on a file, freed however the process ends."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        try:
            self.file = open(self.path, "a+")  # held until __exit__
        except OSError as error:
            stop("cannot write to %s: %s. Clone Syncdesk into a folder of your own." % (HERE, error.strerror))
        if WINDOWS:
            import msvcrt

            while True:
                try:
                    msvcrt.locking(self.file.fileno(), msvcrt.LK_LOCK, 1)
                    break
                except OSError:
                    time.sleep(0.5)
        else:
            import fcntl

            fcntl.flock(self.file, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_):
        self.file.close()


def missing_qt_packages():
    """Debian's packages that Qt needs and this system does not have."""
    missing = []
    for library, package in QT_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    return missing


def provide_qt_libraries(needed_for):
    """As root on Debian or Ubuntu install what Qt needs; elsewhere print the line to run."""
    missing = missing_qt_packages() if sys.platform.startswith("linux") else []
    if not missing:
        return
    line = ["apt-get", "install", "-y", "--no-install-recommends"] + missing
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        stop("%s needs libraries of the system. Run this once:\n  sudo %s" % (needed_for, " ".join(line)))
    environ = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["apt-get", "update", "-qq"], [line[0], "-qq"] + line[1:]):
        if subprocess.run(command, env=environ, stdout=subprocess.DEVNULL).returncode:
            stop("%s needs libraries of the system, and this failed:\n  %s" % (needed_for, " ".join(line)))


def become(command):
    """Replace this process with the real one (Windows has no exec that keeps the console)."""
    environ = environment()
    if WINDOWS:
        try:
            sys.exit(subprocess.run(command, env=environ).returncode)
        except KeyboardInterrupt:
            sys.exit(130)
    os.execve(command[0], command, environ)


def main():
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(__doc__)
        return
    python = find_python()
    if python != sys.executable:
        become([python, os.path.abspath(__file__)] + words)
    check_ground()
    task, rest = words[0], words[1:]
    if task == "test":
        provide_qt_libraries("The tests of the console")
        set_up("requirements-dev.lock")
        compile_sources()
        os.chdir(HERE)
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        os.environ.pop("PYTHONIOENCODING", None)  # pytest's workers learn through a pipe where they are
        # Most tests wait for servers, so two at a time need half as long. With `-n 0` they run one after the other.
        workers = str(min(4, max(2, os.cpu_count() or 2)))
        become([PYTHON, "-m", "pytest", "-n", workers, "--dist", "loadfile"] + rest)
    set_up("requirements.lock")
    compile_sources()
    if task == "console":
        provide_qt_libraries("The console")
        become([PYTHON, "-m", "gui.main"] + rest)
    become([PYTHON, "-m", "scheduler.command"] + words)


if __name__ == "__main__":
    main()
