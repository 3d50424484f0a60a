"""How tests/bench/residency shows what it measured."""
import re


class Table:
    HEAD = ["work", "budget", "resident", "bound", "flexlom", "ratio", "target", "peers", "digest",
            "verdict"]

    def __init__(self):
        self.rows = []

    def add(self, work, share, resident_ms, bound_ms, mine_ms, target, digest=None, peers=None,
            ratio=None, met=None):
        if ratio is None and bound_ms and mine_ms is not None:
            ratio = mine_ms / bound_ms
        if met is None and ratio is not None and target is not None:
            met = ratio <= target
        verdict = "FAILED" if digest is False else "-" if met is None else (
            "met" if met else "missed")
        row = {"work": work, "budget": share, "resident_ms": resident_ms, "bound_ms": bound_ms,
               "flexlom_ms": mine_ms, "ratio": ratio, "target": target, "peers": peers or {},
               "digest_equal": digest, "verdict": verdict}
        self.rows.append(row)
        return row

    def show(self):
        lines = [self.HEAD] + [[
            row["work"], f"{row['budget']:.0%}", shown(row["resident_ms"]), shown(row["bound_ms"]),
            shown(row["flexlom_ms"]), "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
            "-" if row["target"] is None else f"{row['target']:.2f}",
            ", ".join(f"{k} {shown(v)}" for k, v in row["peers"].items()) or "-",
            {True: "equal", False: "DIFFERS", None: "-"}[row["digest_equal"]], row["verdict"]]
            for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.HEAD))]
        for line in lines:
            print("  ".join(t.ljust(w) for t, w in zip(line, widths)).rstrip())


def shown(value):
    return value if isinstance(value, str) else "-" if value is None else f"{value:.1f} ms"


def short(error, label=""):
    """Why, in what room there is in a table."""
    text = str(error).removeprefix(f"{label}: ")
    return text if len(text) <= 70 else text[:67] + "..."


def last_line(out, err, status):
    lines = [line.strip() for line in (out + "\n" + err).splitlines() if line.strip()]
    usual = [line for line in lines if re.search(r"Error|error|failed|Abort|assert", line)]
    text = (usual or lines or ["no output"])[-1][:300]
    return f"status {status}: {text}" if status > 0 else f"signal {-status}: {text}"
