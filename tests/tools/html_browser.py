#!/usr/bin/env python3
"""Opens pages of flexlom html in a headless Chromium and uses them as a person does.

  html_browser.py MOVING SPILLING HOSTILE LARGE    pages made of tests/golden/moving.jsonl,
                                                   spilling.jsonl, a log of hostile names, a long log

Ends with the line that tests/run adds up; 77 when there is no browser.
"""

import sys

import browser
import tally
from tally import expect

# Of a canvas: how many of its pixels have the colour of a variable of the theme, and how many are
# drawn at all.
COUNT = """(selector, variable) => {
  const canvas = document.querySelector(selector + ' canvas');
  const hex = getComputedStyle(document.documentElement).getPropertyValue('--' + variable).trim();
  const value = parseInt(hex.slice(1), 16);
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let same = 0, drawn = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 0) drawn++;
    if (data[i + 3] === 255 && Math.abs(data[i] - (value >> 16)) < 3 &&
        Math.abs(data[i + 1] - (value >> 8 & 255)) < 3 && Math.abs(data[i + 2] - (value & 255)) < 3) same++;
  }
  return [same / (data.length / 4), drawn / (data.length / 4)];
}"""

# The contrast of every text with what it stands on (WCAG 2.1, 1.4.3), the lowest first.
CONTRAST = """(() => {
  const light = (text) => {
    const c = text.match(/[0-9.]+/g).slice(0, 3).map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)$/.test(colour) && colour !== 'transparent') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const out = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim() !== '');
    if (!own || ['SCRIPT', 'STYLE', 'OPTION', 'NOSCRIPT'].includes(node.tagName)) continue;
    const a = light(getComputedStyle(node).color), b = light(ground(node));
    out.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.tagName + ' ' + node.className]);
  }
  return out.sort((x, y) => x[0] - y[0]);
})()"""

# Colours of text on canvases, by the theme's variables.
PAIRS = """(() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const value = parseInt(style.getPropertyValue('--' + name).trim().slice(1), 16);
    const c = [value >> 16, value >> 8 & 255, value & 255].map((v) => {
      v /= 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
  };
  return [['soft', 'paper'], ['text', 'paper'], ['text', 'device-tint'], ['text', 'host-tint']].map(([a, b]) => {
    const x = light(a), y = light(b);
    return [(Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05), a + ' on ' + b];
  });
})()"""


class Page:
    def __init__(self, tab, path):
        self.tab = tab
        tab.problems.clear()
        tab.requests.clear()
        tab.mouse("mouseMoved", 2, 2)  # not over a picture of the page before
        tab.open(path)
        self.path = path

    def box(self, picture):
        self.tab.run(f"document.querySelector('#{picture} .plot').scrollIntoView({{block: 'center'}})")
        return self.tab.run(f"""(() => {{
          const plot = document.querySelector('#{picture} .plot');
          const box = plot.getBoundingClientRect();
          return {{x: box.x, y: box.y, width: box.width, height: box.height, left: +plot.dataset.left,
            right: +plot.dataset.right}};
        }})()""")

    def view(self):
        return self.tab.run("[+document.documentElement.dataset.begin, +document.documentElement.dataset.end]")

    def at(self, picture, seconds, part=0.5):
        box, (begin, end) = self.box(picture), self.view()
        x = box["x"] + box["left"] + (seconds * 1e9 - begin) / (end - begin) * (box["right"] - box["left"])
        return x, box["y"] + box["height"] * part

    def hover(self, picture, seconds, part=0.5):
        """What the box beside the pointer says: title and {name: value}."""
        self.tab.mouse("mouseMoved", *self.at(picture, seconds, part))
        self.tab.settle()
        return self.told()

    def told(self):
        return self.tab.run("""(() => {
          const box = document.getElementById('tip');
          if (box.hidden) return [null, {}];
          return [box.querySelector('b').textContent, Object.fromEntries([...box.querySelectorAll('div')].map(
            (line) => [line.querySelector('span').textContent, line.querySelector('em').textContent]))];
        })()""")

    def colour(self, picture, variable):
        return self.tab.run(f"({COUNT})('#{picture} .plot', '{variable}')")

    def quiet(self):
        # Of reading canvases back, as colour() does, the browser has an opinion.
        problems = [text for text in self.tab.problems if "getImageData" not in text]
        expect(problems == [], self.path, "problems", problems)
        expect(all(url.startswith("file://") for url in self.tab.requests) and len(self.tab.requests) == 1,
               self.path, "requests", self.tab.requests)

    def contrast(self):
        lowest = self.tab.run(CONTRAST)
        expect(len(lowest) > 20 and lowest[0][0] >= 4.5, self.path, "contrast", lowest[:3])
        pairs = self.tab.run(PAIRS)
        expect(min(pairs)[0] >= 4.5, self.path, "contrast on pictures", pairs)


def moving(tab, path):
    page = Page(tab, path)
    expect(tab.run("document.title") == "python3 decode.py", "title", tab.run("document.title"))
    # Every picture is drawn, in the colours that its legend names.
    for picture, colours in {"levels": ("device", "host"), "page-map": ("device", "host", "moved"),
                             "traffic": ("device", "host", "clean"), "totals": ("live",),
                             "icicle": ("device-tint", "host-tint")}.items():
        for colour in colours:
            part, drawn = page.colour(picture, colour)
            expect(part > 0.0005 and drawn > 0.02, picture, colour, part, drawn)

    # At 0.15 s: 128 MiB each of three allocations; one page was spilled, one had left.
    title, told = page.hover("levels", 0.15)
    expect(title == "0.150000 s" or title.startswith("0.15"), "title", title)
    expect(told.get("on the device") == "256 MiB", "levels", told)
    expect(told.get("on the host") == "128 MiB", "levels", told)
    expect(told.get("in use") == "384 MiB", "levels", told)
    expect(told.get("device budget") == "256 MiB", "levels", told)
    _, told = page.hover("levels", 0.05)
    expect(told.get("in use") == "0 B", "levels before the first", told)
    _, told = page.hover("levels", 0.121)
    expect(any(name.startswith("spilled when it was allocated") for name in told), "spill mark", told)
    expect(told.get("1 allocation") == "64 MiB", "spill mark", told)

    # The first page left at 0.12 s and came back at 0.201 s.
    title, told = page.hover("page-map", 0.15, 0.018)
    expect(title == "0x500000000000 to 0x500000200000, 2 MiB", "page", title)
    expect("on the host" in told.values(), "page", told)
    expect(told.get("in use") == "yes", "page", told)
    expect(told.get("so from") == "0.120000 s for 81 ms", "page", told)
    _, told = page.hover("page-map", 0.21, 0.018)
    expect("on the device" in told.values(), "page", told)
    _, told = page.hover("page-map", 0.05, 0.018)
    expect("no page" in told.values(), "page before it was mapped", told)

    _, told = page.hover("traffic", 0.201001)
    expect(told.get("to the device", "").startswith("64 MiB"), "traffic", told)
    _, told = page.hover("traffic", 0.120001)
    expect(told.get("to the host", "").startswith("64 MiB"), "traffic", told)
    _, told = page.hover("traffic", 0.15)
    expect(told.get("to the device") == "0 B", "traffic", told)
    _, told = page.hover("totals", 0.15)
    expect(told.get("held") == "384 MiB", "totals", told)
    expect("384 MiB were held" in tab.run("document.getElementById('stranded').textContent"), "stranded")

    # Zoom: by dragging, by the wheel, and back; all pictures of time together.
    whole = page.view()
    box = page.box("levels")
    middle = box["y"] + box["height"] / 2
    quarter = (box["right"] - box["left"]) / 4
    left = box["x"] + box["left"]
    tab.drag(left + quarter, middle, left + 2 * quarter, middle)
    begin, end = page.view()
    span = whole[1] - whole[0]
    expect(abs(begin - span / 4) < span / 100 and abs(end - span / 2) < span / 100, "drag", begin, end)
    expect(tab.run("document.getElementById('reset').disabled") is False, "reset can be pressed")
    _, told = page.hover("levels", 0.21)
    expect(told.get("in use") == "384 MiB", "levels, zoomed", told)
    x, y = page.at("traffic", 0.22)
    tab.mouse("mouseWheel", x, y, deltaX=0, deltaY=-100, modifiers=2)
    tab.settle()
    nearer = page.view()
    expect(nearer[1] - nearer[0] < (end - begin) * 0.9 and nearer[0] < 0.22e9 < nearer[1], "wheel", nearer)
    x, y = page.at("levels", (nearer[0] + nearer[1]) / 2e9)
    tab.drag(x, y, x + 60, y, shift=True)
    moved = page.view()
    expect(moved[0] < nearer[0] and abs((moved[1] - moved[0]) - (nearer[1] - nearer[0])) < 1000, "pan", moved)
    x, y = page.at("page-map", (moved[0] + moved[1]) / 2e9)
    tab.click(x, y, 2)
    expect(page.view() == whole, "double click", page.view())

    # The keyboard alone.
    tab.run("document.querySelector('#levels .plot').focus()")
    tab.key("+", "+")
    near = page.view()
    expect(abs((near[1] - near[0]) / span - 0.5) < 0.01, "key +", near)
    tab.key("ArrowRight")
    spoken = tab.run("document.getElementById('spoken').textContent")
    expect("on the device 256 MiB" in spoken, "spoken", spoken)
    tab.key("0", "0")
    expect(page.view() == whole, "key 0", page.view())
    tab.key("Escape")
    expect(page.told()[0] is None, "Escape hides the box")
    tabs = tab.run("[...document.querySelectorAll('.plot, button, select, summary')].every(n => n.tabIndex >= 0)")
    expect(tabs, "everything can be reached")

    # The icicle: a node, one part alone, and back.
    box = page.box("icicle")
    tab.mouse("mouseMoved", box["x"] + 40, box["y"] + 60)
    tab.settle()
    title, told = page.told()
    expect(title == "cuMemAlloc_v2" and told.get("100.0%") == "384 MiB" and told.get("on the host") == "128 MiB",
           "icicle", title, told)
    tab.run("document.querySelector('#icicle .plot').focus()")
    tab.key("ArrowDown")
    tab.key("ArrowDown")
    tab.key("Enter")
    expect(page.told()[0] == "cuMemAlloc_v2", "icicle by keys", page.told())
    tab.key("Escape")

    # The other device.
    tab.run("(() => { const d = document.getElementById('device'); d.value = '1';"
            " d.dispatchEvent(new Event('change')); })()")
    tab.settle()
    expect(tab.run("document.querySelector('#levels .plot').hidden || "
                   "document.querySelectorAll('#device option').length === 2"), "two devices")
    page.contrast()
    page.quiet()

    # The button, and what the system prefers.
    before = tab.run("getComputedStyle(document.body).backgroundColor")
    tab.run("document.getElementById('theme').click()")
    tab.settle()
    expect(tab.run("getComputedStyle(document.body).backgroundColor") != before, "theme by button")
    tab.prefer(True)
    page = Page(tab, path)
    expect(tab.run("document.documentElement.dataset.theme") == "dark", "dark by preference")
    expect(page.colour("levels", "device")[0] > 0.05, "drawn in dark")
    page.contrast()
    page.quiet()
    tab.prefer(False)


def spilling(tab, path):
    page = Page(tab, path)
    text = tab.run("document.body.innerText")
    expect("failed requests" in text, "cards")
    at = tab.run("JSON.parse(document.getElementById('data').textContent).failures[0].at")
    _, told = page.hover("levels", at / 1e9)
    expect(any(name.startswith("out of memory") for name in told), "failure mark", told)
    page.quiet()


def hostile(tab, path):
    page = Page(tab, path)
    expect(tab.run("window.harmed") is None, "a name of the log ran as a script")
    expect(tab.run("document.querySelectorAll('img, iframe, b:not(#tip b)').length") == 0, "markup of the log")
    expect("</script><script>window.harmed" in tab.run("document.body.innerText"), "names are shown as they are")
    expect(tab.run("document.title").startswith("</title>"), "title", tab.run("document.title"))
    box = page.box("icicle")
    tab.mouse("mouseMoved", box["x"] + 40, box["y"] + 60)
    tab.settle()
    expect("<img" in (page.told()[0] or ""), "the box shows text only", page.told())
    page.quiet()
    # Even a script that got into the page would not run.
    tab.run("(() => { const s = document.createElement('script'); s.textContent = 'window.harmed = 1';"
            " document.body.append(s); })()")
    expect(tab.run("window.harmed") is None, "the policy lets no other script run")


def large(tab, path):
    page = Page(tab, path)
    for picture in ("levels", "page-map", "traffic", "icicle", "totals"):
        expect(tab.run(f"!document.querySelector('#{picture} .plot').hidden"), picture, "is there")
    for picture, colour in (("levels", "device"), ("traffic", "host"), ("totals", "live")):
        expect(page.colour(picture, colour)[0] > 0.02, picture, colour)
    took = tab.run("""(async () => {
      const begin = performance.now();
      for (let i = 0; i < 10; i++) {
        document.getElementById('reset').disabled = false;
        document.getElementById('reset').click();
        await new Promise(requestAnimationFrame);
      }
      return (performance.now() - begin) / 10;
    })()""")
    expect(took < 500, "a frame takes", took, "ms")
    page.quiet()


def main():
    path = browser.find()
    if path is None:
        print("skipped: there is no Chromium (Debian package chromium)")
        return 77
    with browser.Browser(path) as tab:
        for check, page in zip((moving, spilling, hostile, large), sys.argv[1:]):
            check(tab, page)
    return tally.finish()


sys.exit(main())
