"""The programs that tests/bench/residency measures, and how one of them is run: bare, under flexlom
with a budget, or while another process holds the rest of the device.
"""
import contextlib
import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
GIB, MIB = 1 << 30, 1 << 20
CONTEXT_ALLOWANCE = GIB  # what a bare program's context and kernels take beside its memory
HOLD_LIMIT_S = 30  # taking and giving back all of a device takes a few


def load(name):
    path = os.path.join(HERE, "peers", f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.dont_write_bytecode = True
bounds, table_of = load("bounds"), load("table")


class Failed(Exception):
    """What went wrong, and the result of the run as far as it came."""

    def __init__(self, text, result=None):
        super().__init__(text)
        self.result = result


class Skipped(Exception):
    pass


LLAMA_SMALL = ("--layers 8 --hidden 1024 --intermediate 2816 --heads 8 --kv-heads 2 --length 256 "
               "--tokens 16 --warmup 4 --prefills 6 --prefill-warmup 2 --follow 16").split()
TRAIN_SMALL = ("--layers 4 --hidden 512 --intermediate 2048 --heads 4 --vocab 4000 "
               "--length 256").split()


class Work:
    """One program and the phases that are judged; `allowance_bytes` is left for all but W. It runs
    with `env`, bare and under flexlom."""

    def __init__(self, script, mode=(), all_modes=(), small=(), shares=(0.75, 0.5),
                 allowance_bytes=3 * GIB // 2, peers=(), env=()):
        self.script, self.mode, self.all_modes = script, list(mode), list(all_modes or mode)
        self.small, self.shares, self.peers = list(small), shares, dict(peers)
        self.allowance_bytes, self.env = allowance_bytes, dict(env)


class Peer:
    """What does a work by other means. `few`: instead of its own number of iterations, so that all
    of them fit into the time; the synchronous ones need a second for each. `any_share`: it keeps
    the same on the device whatever it may, so that one run, with the least memory, is for all."""

    def __init__(self, script, few=(), any_share=False):
        self.script, self.few, self.any_share = script, list(few), any_share


# Not fewer than work.HEAD of anything, or there is nothing to compare the results by.
FEW = ["--tokens", "8", "--warmup", "2", "--prefills", "4", "--prefill-warmup", "1"]
SOME = ["--tokens", "24", "--warmup", "6", "--prefills", "6", "--prefill-warmup", "2"]
LLAMA_PEERS = {"accelerate": Peer("llama_accelerate.py", FEW),
               "stream": Peer("llama_stream.py", SOME),
               "zero_copy": Peer("llama_zero_copy.py", SOME)}


def llama(mode, peers=LLAMA_PEERS):
    return Work("llama.py", ["--mode", mode], ["--mode", mode if mode == "both" else "all"],
                LLAMA_SMALL, peers=peers)


WORKS = {
    "decode": llama("decode"),
    "prefill": llama("prefill"),
    "both": llama("both", {}),
    "train": Work("train.py", small=TRAIN_SMALL, allowance_bytes=0,
                  peers={"fsdp2": Peer("train_fsdp2.py", ["--steps", "8", "--warmup", "3"], True)}),
    "kv": Work("kv.py", small=["--small"], shares=(0.5,), allowance_bytes=GIB // 2),
    "moe": Work("moe.py", small=["--small"], shares=(0.5,), allowance_bytes=GIB // 2),
    "gather": Work("gather.py", small=["--small"], shares=(0.5,), allowance_bytes=GIB // 4,
                   peers={"split": Peer("gather_split.py")}),
    "arena": Work("llama.py", ["--mode", "prefill", "--one-block"], small=LLAMA_SMALL,
                  shares=(0.5,)),
    "segments": Work("llama.py", ["--mode", "prefill"], small=LLAMA_SMALL, shares=(0.5,),
                     env={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
    "graph": Work("graph.py", small=["--small"], shares=(0.5,), allowance_bytes=GIB // 4),
    "rereads": Work("rereads.py", small=["--small"], shares=(0.5,), allowance_bytes=GIB // 2),
}


class Runner:
    def __init__(self, options):
        self.options = options
        self.build = os.path.join(ROOT, options.build)
        self.scripts = os.path.join(ROOT, options.scripts)
        self.preload = os.path.join(self.build, "libflexlom.so")
        self.hold = os.path.join(self.build, "gpu", "hold_memory")
        self.ends = time.monotonic() + options.limit_s
        self.environment = {k: v for k, v in os.environ.items()
                            if k != "LD_PRELOAD" and not k.startswith("FLEXLOM_")}
        self.environment["PYTHONDONTWRITEBYTECODE"] = "1"
        self.flexlom = dict(pair.split("=", 1) for pair in options.env)
        self.runs, self.done = [], {}

    def facts(self):
        answer = subprocess.run([self.hold, "--info"], env=self.environment, capture_output=True,
                                text=True)
        if answer.returncode != 0:
            return None, answer.stderr.strip().removeprefix("skipped: ")
        facts = dict(line.split(" ", 1) for line in answer.stdout.splitlines())
        if self.options.gpu and "simulated" in facts["device"]:
            return None, "only the simulated driver"
        return facts, ""

    def link(self):
        argv = [os.path.join(self.build, "gpu", "link"),
                *([str(self.options.link_mib)] if self.options.link_mib else [])]
        answer = subprocess.run(argv, env=self.environment, capture_output=True, text=True,
                                timeout=120)
        if answer.returncode != 0:
            raise Failed(f"link: status {answer.returncode}: {answer.stderr.strip()}")
        return json.loads(answer.stdout)

    def run(self, label, argv, limits=None, most_s=None, env=()):
        """One process; `limits` holds its FLEXLOM_ variables, or is None for a bare run."""
        left = self.ends - time.monotonic()
        if left < min(20, self.options.limit_s / 2):
            raise Skipped(f"{label}: no time left")
        env = {**self.environment, **dict(env)}
        if limits is not None:
            env.update(limits, **self.flexlom, LD_PRELOAD=self.preload, FLEXLOM_STATS="1")
        start = time.monotonic()
        # A session of its own, so that a run past its limit is ended with its children.
        process = subprocess.Popen([sys.executable, *argv], env=env, text=True, cwd=ROOT,
                                   errors="replace", start_new_session=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        limit_s = min(most_s or self.options.run_limit_s, left)
        try:
            out, err = process.communicate(timeout=limit_s)
            error = None if process.returncode == 0 else table_of.last_line(
                out, err, process.returncode)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            error = f"stopped after {limit_s:.0f} s"
        result = {"label": label, "argv": [os.path.basename(argv[0]), *argv[1:]],
                  "flexlom": None if limits is None else {**limits, **self.flexlom},
                  "seconds": round(time.monotonic() - start, 2), "status": process.returncode,
                  "error": error, "phases": bounds.results_of(out), "stats": bounds.stats_of(err),
                  "promoted_at": bounds.promoted_at(err),
                  "warnings": re.findall(r"^flexlom\[\d+\]: (?!stats)(.*)$", err, re.MULTILINE)}
        self.runs.append(result)
        print(f"  {label}: {result['seconds']:.1f} s; {error or describe(result)}", flush=True)
        if error:
            result["stderr_tail"] = err[-2000:]
            raise Failed(f"{label}: {error}", result)
        if limits is not None and "device_peak_bytes" not in result["stats"]:
            raise Failed(f"{label}: no stats line: flexlom was not in the process")
        return result

    def argv(self, work, script, extra):
        small = work.small if self.options.small else []
        return [os.path.join(self.scripts, script), *small, *extra]

    def once(self, key, make):
        """The result of `make`, or its failure, which is met again by all that need it."""
        if key not in self.done:
            try:
                self.done[key] = make()
            except (Failed, Skipped) as error:
                self.done[key] = error
        if isinstance(self.done[key], Exception):
            raise self.done[key]
        return self.done[key]

    def resident(self, work):
        argv = self.argv(work, work.script, work.all_modes)
        label = f"{name_of(argv, work.env)} resident"
        return self.once((*argv, *work.env), lambda: self.run(label, argv, env=work.env))

    @contextlib.contextmanager
    def held(self, leave_bytes):
        """While another process holds all of the device but this much, and room for a context."""
        holder = subprocess.Popen([self.hold, str(leave_bytes + CONTEXT_ALLOWANCE)],
                                  env=self.environment, text=True, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        try:
            ready, _, _ = select.select([holder.stdout], [], [], HOLD_LIMIT_S)
            if not ready or not holder.stdout.readline().startswith("holding"):
                raise Failed("hold_memory failed" if ready else
                             f"hold_memory: not ready after {HOLD_LIMIT_S} s")
            yield
        finally:
            try:
                holder.communicate(timeout=HOLD_LIMIT_S)
            except subprocess.TimeoutExpired:
                holder.kill()
                holder.communicate()

    def under_flexlom(self, work, share, limit_bytes, host_bytes, extra=()):
        argv = self.argv(work, work.script, work.mode)
        limits = {"FLEXLOM_DEVICE_LIMIT": str(limit_bytes), "FLEXLOM_HOST_LIMIT": str(host_bytes),
                  **dict(extra)}
        label = " ".join([f"{name_of(argv, work.env)} flexlom {share:.0%}",
                          *dict(extra).values()])

        def make():
            hold = self.held(limit_bytes) if self.options.hold else contextlib.nullcontext()
            with hold:
                return [self.run(label, argv, limits, env=work.env)
                        for _ in range(self.options.rounds)]
        return self.once((*argv, *work.env, share, *dict(extra).items()), make)

    def peer(self, work, name, share, weights_bytes, limit_bytes):
        peer = work.peers[name]
        argv = self.argv(work, peer.script, [*work.all_modes, *peer.few, "--weights-on-device",
                                             str(weights_bytes)])
        label = name_of(argv) if peer.any_share else f"{name_of(argv)} {share:.0%}"

        def make():
            with self.held(limit_bytes):
                return self.run(label, argv, most_s=self.options.peer_limit_s)
        return self.once((label,) if peer.any_share else tuple(argv), make)


def name_of(argv, env=()):
    mode = [argv[i + 1] for i, word in enumerate(argv) if word == "--mode"]
    block = ["one block"] if "--one-block" in argv else []
    return " ".join([os.path.basename(argv[0]).removesuffix(".py"), *mode, *block,
                     *(["segments"] if "PYTORCH_CUDA_ALLOC_CONF" in env else [])])


def describe(result):
    """A line for those who watch: steady and first times, memory."""
    parts = []
    for name, phase in result["phases"].items():
        if "median_ms" in phase:
            first = " ".join(f"{t:.0f}" for t in phase["times_ms"][:6])
            parts.append(f"{name} {phase['median_ms']:.1f} ms (first {first})")
        elif "ms" in phase:
            parts.append(f"{name} {phase['ms']:.0f} ms")
    parts += [f"{key.removesuffix('_bytes')} {result['stats'][key] / GIB:.2f} GiB" for key in
              ("device_peak_bytes", "host_peak_bytes", "promoted_bytes", "demoted_copied_bytes",
               "in_place_bytes") if key in result["stats"]]
    return ", ".join(parts)
