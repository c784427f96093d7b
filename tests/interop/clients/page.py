"""Looks at an edge's status page with Chromium and compares it with /status.

usage: page.py ADDRESS OUT_DIR CLIENT_ID...

The ids are those that clients of the node have; some are hostile. Leaves screenshots in OUT_DIR.
Speaks the browser's own protocol over its pipe, so that nothing is needed beside Chromium.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import unicodedata
import urllib.request

PATIENCE_S = 60
SIZES = [(360, 800), (1280, 800)]


class Browser:
    """One tab. Requests are answered in order; events gather in `events`."""

    def __init__(self, profile):
        to_browser, self.out = os.pipe()
        self.inp, from_browser = os.pipe()
        os.set_inheritable(to_browser, True)
        os.set_inheritable(from_browser, True)

        def place():
            # The browser reads 3 and writes 4, whatever numbers the pipes have here.
            reads, writes = os.dup(to_browser), os.dup(from_browser)
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        flags += ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        flags += ["--disable-background-networking", "--disable-component-update"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        self.process = subprocess.Popen(
            ["chromium", *flags, "about:blank"],
            preexec_fn=place,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.number, self.session, self.events = b"", 0, None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        self.number += 1
        request = {"id": self.number, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.out, json.dumps(request).encode() + b"\0")
        while True:
            message = self.receive()
            if message.get("id") == self.number:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def receive(self):
        while b"\0" not in self.buffer:
            read = os.read(self.inp, 1 << 16)
            if not read:
                sys.exit("chromium has ended")
            self.buffer += read
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def value(self, expression):
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            sys.exit(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, what, expression):
        until = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            if time.monotonic() > until:
                sys.exit(f"never came: {what}\n{self.value('document.body.innerText')}")
            time.sleep(0.05)

    def screenshot(self, path):
        taken = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(taken["data"]))


def fetch(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
        return json.load(answer)


def plain(text):
    """As the page shows it: what does not print stands there as its number."""
    hidden = {"Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Cs"}
    shown = [f"\\u{{{ord(c):x}}}" if unicodedata.category(c) in hidden else c for c in text]
    return "".join(shown)


def check(fine, problem):
    if not fine:
        sys.exit(problem)


def equal(what, page, status):
    check(page == status, f"{what}: the page shows {page!r}, /status has {status!r}")


def text_of(browser, ids):
    wanted = json.dumps(ids)
    return browser.value(
        f"Object.fromEntries({wanted}.map((id) => [id, document.getElementById(id).textContent]))"
    )


ROWS = """(id) => [...document.querySelectorAll(`#${id} tr`)]
    .map((row) => [...row.children].map((cell) => cell.textContent))"""

# WCAG 2.1, 1.4.3: relative luminance of text and what is behind it.
CONTRASTS = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.offsetParent) continue;
    const pair = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))].sort();
    const ratio = (pair[1] + 0.05) / (pair[0] + 0.05);
    if (ratio < 4.5) low.push(`${element.tagName} ${element.textContent.slice(0, 30)}: ${ratio}`);
  }
  return low;
})()"""

OUTSIDE = """[...document.body.querySelectorAll("*")]
    .filter((e) => e.getClientRects().length && getComputedStyle(e).clipPath === "none"
        && !e.closest("thead") && e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.tagName + " " + e.textContent.slice(0, 40))"""


def numbers(browser, address, client_ids):
    """The page and /status, both at rest, say the same."""
    status, sessions = fetch(address, "/status"), fetch(address, "/clients")
    shown = text_of(browser, ["name", "health", "connected", "in-total", "lag", "sessions"])
    mqtt, log, uplink = status["mqtt"], status["log"], status["uplink"]
    equal("name", shown["name"], status["name"])
    check(status["health"]["ok"], "the node is not well")
    equal("health", shown["health"], "takes publishes")
    equal("connected", shown["connected"], f"{mqtt['connected']:,}")
    equal("published", shown["in-total"], f"{sum(mqtt['published']):,} since the start")
    equal("lag", shown["lag"], f"{uplink['lag']:,}")
    both = f"{mqtt['sessions']:,} sessions, {mqtt['subscriptions']:,} subscriptions"
    equal("sessions", shown["sessions"], both)
    partitions = browser.value(f"({ROWS})('partitions')")
    expected = [
        [p["partition"], f"{p['next'] - p['start']:,}", f"{p['next'] - p['acked']:,}"]
        for p in status["partitions"]
    ]
    check(expected, "the node has no partition")
    equal("partitions", [[row[0], row[1], row[4]] for row in partitions], expected)
    clients = browser.value(f"({ROWS})('clients')")
    expected = [
        [
            plain(c["client_id"]),
            c["version"] if c["connected"] else "asleep",
            c["remote"] or "–",
            f"{c['inflight']:,}",
            f"{c['received']:,}",
            f"{c['sent']:,}",
        ]
        for c in sessions["clients"]
    ]
    equal("clients", [row[:3] + row[4:] for row in clients], expected)
    for client_id in client_ids:
        found = [row for row in clients if row[0] == plain(client_id)]
        check(found, f"{client_id!r} is not on the page as text")
    check(any(row[3] != "0" for row in clients), "a queue that waits")
    facts = browser.value("[...document.querySelectorAll('#log dd')].map((e) => e.textContent)")
    equal("records", facts[0], f"{log['records']:,}")
    recent = browser.value("[...document.querySelectorAll('#recent li')].map((e) => e.textContent)")
    equal("lines", len(recent), len(status["recent"]))
    check(recent and plain(status["recent"][0]["text"]) in recent[0], f"the last warning: {recent}")


def foreign(browser, address):
    """Nothing was run, loaded or asked for that is not the node's own."""
    for event in browser.events:
        method, params = event.get("method"), event.get("params", {})
        if method in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
            sys.exit(f"{method}: {params}")
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            sys.exit(f"console: {params['args']}")
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            sys.exit(f"log: {params['entry']}")
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            own = (f"http://{address}/", "data:,", "about:blank")
            check(url.startswith(own), f"a request to {url}")
    kinds = "[...document.querySelectorAll('script, img, iframe, style, b[onclick], a')]"
    scripts = browser.value(f"{kinds}.map((e) => e.tagName + ' ' + (e.src ?? ''))")
    equal("elements", scripts, [f"SCRIPT http://{address}/status.js"])
    equal("a script of a client's", browser.value("window.hacked"), None)


def layout(browser, size):
    wide = browser.value("document.documentElement.scrollWidth")
    check(wide <= size[0], f"{size}: the page is {wide} wide")
    equal(f"{size}: outside", browser.value(OUTSIDE), [])
    check(
        browser.value("[...document.querySelectorAll('th')].every((th) => th.scope)"),
        "a head of a table without its scope",
    )
    for scheme in ["dark", "light"]:
        feature = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.ask("Emulation.setEmulatedMedia", features=feature)
        low = browser.value(CONTRASTS)
        check(not low, f"{scheme}: contrast below 4.5: {low}")
        yield scheme


def main():
    address, out, *client_ids = sys.argv[1:]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        try:
            for size in SIZES:
                metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 500}
                browser.ask("Emulation.setDeviceMetricsOverride", **metrics)
                browser.ask("Page.navigate", url=f"http://{address}/")
                browser.wait("rates", r"/\d/.test(document.getElementById('in-rate')?.textContent)")
                numbers(browser, address, client_ids)
                for scheme in layout(browser, size):
                    browser.screenshot(f"{out}/page-{size[0]}-{scheme}.png")
                foreign(browser, address)
            # Without a network the page says how old its numbers are.
            browser.ask("Network.emulateNetworkConditions", offline=True, latency=0,
                        downloadThroughput=0, uploadThroughput=0)
            age = "document.getElementById('age').textContent"
            browser.wait("age", rf"/does not answer; as of \d+ s ago/.test({age})")
            equal("health", text_of(browser, ["health"])["health"], "no answer")
            low = browser.value(CONTRASTS)
            check(not low, f"without an answer: contrast below 4.5: {low}")
            browser.screenshot(f"{out}/page-stale.png")
        finally:
            browser.process.kill()
            browser.process.wait()
    print(f"the page equals /status at {SIZES}, with {len(client_ids)} odd client ids")


main()
