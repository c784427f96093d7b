// Shows /status and /clients. Everything goes into the document as text nodes.
"use strict";

const EVERY_MS = 3000, CLIENTS_MAX = 100;
let answeredAt = 0, before = null, why = "";

const at = (id) => document.getElementById(id);
const count = (n) => Number(n).toLocaleString("en");
const sum = (list) => list.reduce((a, b) => a + b, 0);

function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  for (; n >= 999.5 && unit < units.length - 1; unit++) n /= 1000;
  return (unit && n < 9.95 ? n.toFixed(1) : Math.round(n)) + " " + units[unit];
}

function span(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + (Math.floor(s / 60) % 60) + " min";
  return Math.floor(s / 86400) + " d " + (Math.floor(s / 3600) % 24) + " h";
}

function rate(now, then, ms) {
  if (then === undefined || ms <= 0 || now < then) return "–";
  const r = (now - then) * 1000 / ms;
  return r > 0 && r < 9.95 ? r.toFixed(1) : count(Math.round(r));
}

// Characters that do not print, or that turn the direction of others, are shown as what they are.
function plain(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}\p{Cs}]/gu,
    (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");
}

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = plain(text);
  if (name) made.className = name;
  return made;
}

function set(id, text, bad) {
  at(id).textContent = plain(text);
  at(id).classList.toggle("bad", !!bad);
}

// The first cell names the row; a label is what stands before a cell on a narrow screen.
function rows(id, labels, list) {
  const made = list.map((cells) => {
    const row = document.createElement("tr");
    row.role = "row"; // A narrow screen lays rows out as blocks, which takes a table's roles away.
    cells.forEach(([text, name], i) => {
      const cell = element(i ? "td" : "th", text, name);
      cell.role = i ? "cell" : "rowheader";
      if (i) cell.dataset.label = labels[i]; else cell.scope = "row";
      row.append(cell);
    });
    return row;
  });
  at(id).replaceChildren(...made);
  at("no-" + id).hidden = list.length > 0;
  at(id).parentNode.hidden = list.length === 0;
}

function facts(id, pairs) {
  at(id).replaceChildren(...pairs.flatMap(([what, text]) => [element("dt", what), element("dd", text)]));
}

function lines(id, list) {
  at(id).replaceChildren(...list.map(({ at_ms, level, text }) => {
    const line = element("li"), time = element("time", new Date(at_ms).toISOString().slice(0, 19).replace("T", " "));
    line.append(time, " ", element("b", level, level), " ", plain(text));
    return line;
  }));
}

function show(s, sessions) {
  const m = s.mqtt, l = s.log, u = s.uplink, ms = before ? s.uptime_ms - before.uptime_ms : 0;
  const offsets = before ? Object.fromEntries(before.partitions.map((p) => [p.partition, p.next])) : {};
  const used = l.journal_bytes + l.segment_bytes + l.checkpoint_bytes;
  document.title = plain(s.name) + " – Headwater edge";
  set("name", s.name);
  at("health").className = "pill " + (s.health.ok ? "good" : "bad");
  at("health").textContent = s.health.ok ? "takes publishes" : "takes no publishes";
  set("about", s.health.ok ? "" : s.health.reason);
  set("connected", count(m.connected));
  set("sessions", count(m.sessions) + " sessions, " + count(m.subscriptions) + " subscriptions");
  set("in-rate", rate(sum(m.published), before ? sum(before.mqtt.published) : undefined, ms) + " /s");
  set("in-total", count(sum(m.published)) + " since the start");
  set("lag", count(u.lag));
  set("link", !u.configured ? "no uplink is set up" : u.connected ? "link up" : "link down", u.configured && !u.connected);
  set("used", bytes(used));
  set("limit", "of " + bytes(l.limit_bytes) + (l.limit_bytes ? " (" + Math.round(used * 100 / l.limit_bytes) + " %)" : ""), l.full);
  rows("partitions", ["", "Records", "Size", "Records/s", "To send"], s.partitions.map((p) => [
    [p.partition], [count(p.next - p.start), "n"], [bytes(p.bytes), "n"],
    [rate(p.next, offsets[p.partition], ms), "n"], [p.in_doubt ? "in doubt" : count(p.next - p.acked), "n"],
  ]));
  const shown = sessions.clients.slice(0, CLIENTS_MAX), hidden = sessions.sessions - shown.length;
  rows("clients", ["", "MQTT", "Address", "Queue", "Inflight", "From", "To"], shown.map((c) => [
    [c.client_id], [c.connected ? c.version : "asleep", "wide"], [c.remote ?? "–", "wide"],
    [count(c.queued) + (c.queued ? " (" + bytes(c.queued_bytes) + ")" : ""), "n"],
    [count(c.inflight), "n"], [count(c.received), "n"], [count(c.sent), "n"],
  ]));
  at("more-clients").hidden = hidden <= 0;
  at("more-clients").textContent = "and " + count(Math.max(hidden, 0)) + " more";
  facts("log", [
    ["Records taken", count(l.records)], ["Refused", count(l.refused)], ["Without a route", count(l.unrouted)],
    ["Journal", bytes(l.journal_bytes)],
    ["Segments", bytes(l.segment_bytes) + ", files: " + count(sum(s.partitions.map((p) => p.segments)))],
    ["Checkpoints", bytes(l.checkpoint_bytes)],
    ["Commits", count(l.commits) + (l.commits ? ", " + (l.commit_us / l.commits / 1000).toFixed(1) + " ms each" : "")],
    ["Free on the disk", s.disk_free_bytes === null ? "unknown" : bytes(s.disk_free_bytes)],
  ]);
  facts("uplink", [
    ["State", !u.configured ? "not set up" : u.connected ? "up" : "down"], ["Cloud", u.remote ?? "–"],
    ["Round trip", u.connected ? (u.round_trip_us / 1000).toFixed(1) + " ms" : "–"],
    ["Sent", bytes(u.sent_bytes)], ["Received", bytes(u.received_bytes)], ["Connections", count(u.connects)],
    ["Last error", u.last_error ?? "–"],
  ]);
  facts("mqtt", [
    ["In, QoS 0 / 1 / 2", m.published.map(count).join(" / ")], ["Out, QoS 0 / 1 / 2", m.delivered.map(count).join(" / ")],
    ["Waiting", count(m.queued)], ["Missed by slow subscribers", count(m.dropped)],
    ["Retained", count(m.retained) + ", " + bytes(m.retained_bytes)], ["CONNECTs refused", count(m.connects_refused)],
    ["Malformed packets", count(m.malformed)],
  ]);
  facts("node", [
    ["Version", s.version], ["Up", span(s.uptime_ms)], ["Memory", bytes(s.memory_bytes)],
    ["Data directory", s.data_dir], ["Log filter", s.log_filter ?? "–"],
    ["Warnings / errors", count(s.lines.warnings) + " / " + count(s.lines.errors)],
  ]);
  at("troubles").hidden = s.alarms.length === 0;
  lines("alarms", s.alarms.map((a) => ({ at_ms: a.at_ms, level: a.partition, text: a.alarm })));
  lines("recent", s.recent.map((r) => ({ ...r, text: r.text + (r.times > 1 ? " (" + count(r.times) + " times)" : "") })));
  at("no-recent").hidden = s.recent.length > 0;
}

async function json(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(10000), cache: "no-store" });
  if (!answer.ok) throw new Error(path + " answers " + answer.status);
  return answer.json();
}

async function refresh() {
  try {
    const [status, sessions] = await Promise.all([json("status"), json("clients")]);
    show(status, sessions);
    before = status;
    answeredAt = Date.now();
    why = "";
  } catch (error) {
    why = error.message;
  }
  age();
  setTimeout(refresh, EVERY_MS);
}

function age() {
  const old = answeredAt ? Date.now() - answeredAt : 0, stale = why !== "" || old > 3 * EVERY_MS;
  document.body.classList.toggle("stale", stale && answeredAt > 0);
  const ago = answeredAt ? "as of " + span(old) + " ago" : "no answer yet";
  if (stale) {
    at("health").className = "pill bad";
    at("health").textContent = "no answer";
    set("about", "");
  }
  set("age", stale ? "The node does not answer; " + ago + (why ? " (" + why + ")" : "") : ago, stale);
}

setInterval(age, 1000);
refresh();
