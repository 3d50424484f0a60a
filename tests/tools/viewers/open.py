#!/usr/bin/env python3
"""Opens exports of a trace log with the tools that they are made for, and compares what those show.

  open.py flamegraph FOLDED SVG            SVG: what flamegraph.pl --minwidth 0 made of FOLDED
  open.py speedscope INDEX_HTML EXPORT...  folded stacks, and speedscope's own format

Ends with the line that tests/run adds up; 77 when there is no browser.
"""

import base64
import collections
import json
import os
import re
import sys
import tempfile
import time
import xml.etree.ElementTree

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import browser  # noqa: E402
import tally  # noqa: E402
from tally import expect  # noqa: E402

def folded_stacks(path):
    """{(frame, ...): weight}"""
    with open(path, encoding="utf-8") as file:
        lines = [line.rpartition(" ") for line in file.read().splitlines()]
    return {tuple(frames.split(";")): int(weight) for frames, _, weight in lines}


def check_flamegraph(folded, svg):
    stacks = folded_stacks(folded)
    totals = collections.Counter()
    for frames, weight in stacks.items():
        for depth in range(1, len(frames) + 1):
            totals[frames[:depth]] += weight
    wanted = collections.Counter((frames[-1], total) for frames, total in totals.items())
    wanted[("all", sum(stacks.values()))] += 1
    shown = collections.Counter()
    for title in xml.etree.ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}title"):
        found = re.fullmatch(r"(.*) \(([0-9,]+) bytes, [0-9.]+%\)", title.text)
        if found:
            shown[(found[1], int(found[2].replace(",", "")))] += 1
        else:
            expect(False, "a box of another form", title.text)
    # Brackets would be markup: it draws round ones in their place.
    wanted = collections.Counter(
        {(name.replace("<", "(").replace(">", ")"), total): count
         for (name, total), count in wanted.items()})
    expect(shown == wanted, "boxes differ", folded, list((shown - wanted).items())[:3],
           list((wanted - shown).items())[:3])


def wanted_profiles(path):
    """[(name or None, unit, {(frame, ...): weight}), ...]"""
    if path.endswith(".folded"):
        return [(None, "none", folded_stacks(path))]
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    names = [frame["name"] for frame in content["shared"]["frames"]]
    profiles = []
    for profile in content["profiles"]:
        stacks = {tuple(names[i] for i in sample): weight
                  for sample, weight in zip(profile["samples"], profile["weights"])}
        profiles.append((profile["name"], profile["unit"], stacks))
    return profiles


def stacks_of_events(profile, names):
    """What speedscope has read, which it writes as frames that open and close."""
    stacks, stack, since = collections.Counter(), [], 0
    for event in profile["events"]:
        if event["at"] > since:
            stacks[tuple(names[i] for i in stack)] += event["at"] - since
            since = event["at"]
        if event["type"] == "O":
            stack.append(event["frame"])
        else:
            assert stack.pop() == event["frame"], "a frame closes that is not the innermost"
    return dict(stacks)


CLICK = """(words) => {
  const all = [...document.querySelectorAll('div')].filter((d) => d.innerText.endsWith(words));
  const found = all.filter((d) => ![...d.children].some((child) => all.includes(child)));
  if (found.length === 0) throw new Error('no button ' + words);
  found[0].click();
}"""
# A file that it saves is kept instead; where that lies leads nowhere.
KEEP_SAVED = """(() => {
  window.saved = null;
  URL.createObjectURL = (blob) => { window.saved = blob; return 'javascript:void 0'; };
})()"""


def until(what, holds):
    deadline = time.time() + 20
    while not holds():
        if time.time() > deadline:
            expect(False, what)
            return False
        time.sleep(0.02)
    return True


def check_speedscope(tab, index, path):
    name = os.path.basename(path)
    with open(path, "rb") as file:
        content = base64.b64encode(file.read()).decode()
    with tempfile.NamedTemporaryFile("w", suffix=".js") as script:
        # As speedscope's own command hands a file to its page.
        script.write(f"speedscope.loadFileFromBase64({json.dumps(name)}, {json.dumps(content)})")
        script.flush()
        tab.problems.clear()
        tab.open("/dev/null")
        tab.open(f"{index}#localProfilePath={script.name}")
        opened = until(f"{name} opens",
                       lambda: tab.run("document.title").endswith(" - speedscope"))
    if not opened:
        print("  it says:", [p for p in tab.problems if "WebGL" not in p])
        return
    wanted = wanted_profiles(path)
    tab.run(KEEP_SAVED)
    tab.run(f"({CLICK})('Export')")
    until("speedscope saves", lambda: tab.run("window.saved !== null"))
    read = json.loads(tab.run("window.saved.text()"))
    names = [frame["name"] for frame in read["shared"]["frames"]]
    expect(len(read["profiles"]) == len(wanted), "profiles", name)
    for profile, (title, unit, stacks) in zip(read["profiles"], wanted):
        expect(title is None or profile["name"] == title, "title", name, profile["name"], title)
        expect(profile["unit"] == unit, "unit", name, profile["unit"], unit)
        shown = stacks_of_events(profile, names)
        expect(shown == stacks, "stacks differ", name, list(shown.items())[:2],
               list(stacks.items())[:2])
    # Its table of functions, as people see it; long ones are drawn only as far as they are visible.
    tab.run(f"({CLICK})('Sandwich')")
    tab.settle()
    rows = tab.run("[...document.querySelectorAll('tr')].filter((row) => row.cells.length === 3)"
                   ".map((row) => row.cells[2].innerText)")
    title, _, stacks = wanted[0]
    functions = {frame for frames in stacks for frame in frames}
    missing = [row for row in rows if row not in functions | {"Name", "Symbol Name", "Total Weight"}
               and " ".join(row.split()) not in {" ".join(f.split()) for f in functions}
               and not re.fullmatch(r"[0-9.,]+( [KMGT]?B)?", row)]
    expect(not missing and len(rows) > min(len(functions), 5), "table of functions", name, missing)
    problems = [p for p in tab.problems if "WebGL" not in p]
    expect(not problems, "complaints", name, problems)


def main():
    if sys.argv[1] == "flamegraph":
        check_flamegraph(*sys.argv[2:])
    else:
        path = browser.find()
        if path is None:
            print("skipped: no Chromium to open speedscope in")
            sys.exit(77)
        with browser.Browser(path) as tab:
            for export in sys.argv[3:]:
                check_speedscope(tab, sys.argv[2], export)
            far = [url for url in tab.requests if not url.startswith(("file:", "data:"))]
            expect(not far, "requests leave this machine", far)
    sys.exit(tally.finish())


main()
