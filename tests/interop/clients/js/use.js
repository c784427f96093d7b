// Uses a broker with mqtt.js as people do, and prints `ok WHAT` for each part that worked.
//
// usage: node use.js 4|5 URL [CA]     URL: mqtt://, mqtts://, ws:// or wss://HOST:PORT
//
// A session that outlives its connection, retained messages, a will, a shared subscription, a reconnect
// by the library itself, and on 5 request and response.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [version, url, ca] = process.argv.slice(2);
const five = version === "5";
const run = `use/mqttjs-${version}-${new URL(url).protocol.slice(0, -1)}`;
const patienceMs = 30_000;

const timeout = (what, ms = patienceMs) =>
  new Promise((_, reject) => setTimeout(() => reject(new Error(`no ${what} in ${ms} ms`)), ms).unref());
const soon = (promise, what) => Promise.race([promise, timeout(what)]);

// A connected client, with what came to it.
class Client {
  static async connect(name, { clean = true, will, ...more } = {}) {
    const self = new Client();
    self.messages = [];
    self.inner = mqtt.connect(url, {
      clientId: `${run}/${name}`,
      protocolVersion: Number(version),
      clean,
      will,
      ca: ca && readFileSync(ca),
      reconnectPeriod: 0,
      properties: five ? { sessionExpiryInterval: clean ? 0 : 300 } : undefined,
      ...more,
    });
    self.inner.on("message", (topic, payload, packet) => {
      self.messages.push({ topic, payload: payload.toString(), packet });
      self.wake?.();
    });
    const connack = await soon(
      new Promise((resolve, reject) => self.inner.once("connect", resolve).once("error", reject)),
      "CONNACK",
    );
    self.sessionPresent = connack.sessionPresent;
    return self;
  }

  async subscribe(filter, qos, options = {}) {
    const granted = await soon(this.inner.subscribeAsync(filter, { qos, ...options }), "SUBACK");
    assert.deepEqual(granted.map((g) => g.qos), [qos]);
  }

  publish(topic, payload, options) {
    return soon(this.inner.publishAsync(topic, payload, options), "acknowledgement");
  }

  // The next messages, and that no other follows.
  async get(count) {
    const enough = async () => {
      while (this.messages.length < count) await new Promise((resolve) => (this.wake = resolve));
    };
    await soon(enough(), `${count} messages (${this.messages.length})`);
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(this.messages.length, count, `one more: ${this.messages[count]?.topic}`);
    return this.messages.splice(0);
  }

  leave() {
    return this.inner.endAsync();
  }
}

const ok = (what) => console.log(`ok ${what}`);
const numbers = (n) => [...Array(n).keys()];

async function session() {
  const other = await Client.connect("session-publisher");
  let sleeper = await Client.connect("session", { clean: false });
  assert.equal(sleeper.sessionPresent, false);
  await sleeper.subscribe(`${run}/session/#`, 2);
  await sleeper.leave();
  for (const n of numbers(40)) {
    await other.publish(`${run}/session/${n % 3}`, String(n), { qos: 1 + (n % 2) });
  }
  sleeper = await Client.connect("session", { clean: false });
  assert.equal(sleeper.sessionPresent, true);
  const got = await sleeper.get(40);
  for (const qos of [1, 2]) {
    const came = got.filter((m) => m.packet.qos === qos).map((m) => Number(m.payload));
    assert.deepEqual(came, numbers(40).filter((n) => 1 + (n % 2) === qos));
  }
  await sleeper.leave();
  sleeper = await Client.connect("session", { clean: true });
  assert.equal(sleeper.sessionPresent, false);
  await sleeper.get(0);
  await sleeper.leave();
  await other.leave();
  ok("a session outlives its connection, its messages come once and in order");
}

async function retained() {
  const writer = await Client.connect("retained-writer");
  const put = (n, payload, retain) => writer.publish(`${run}/state/é${n}`, payload, { qos: 1, retain });
  for (const n of numbers(5)) {
    await put(n, `first ${n}`, true);
    await put(n, `state ${n}`, true);
  }
  await put(4, "", false);
  await put(3, "", true);
  const reader = await Client.connect("retained-reader");
  await reader.subscribe(`${run}/state/+`, 1);
  const got = (await reader.get(4)).map((m) => `${m.topic} ${m.payload} ${m.packet.retain}`).sort();
  assert.deepEqual(got, [0, 1, 2, 4].map((n) => `${run}/state/é${n} state ${n} true`));
  for (const n of numbers(5)) await put(n, "", true);
  await writer.leave();
  await reader.leave();
  ok("retained messages: the last one, deleted by an empty retained one alone");
}

async function will() {
  const watcher = await Client.connect("will-watcher");
  await watcher.subscribe(`${run}/will`, 1);
  const options = { will: { topic: `${run}/will`, payload: Buffer.from("gone"), qos: 1, retain: false } };
  const orderly = await Client.connect("will", options);
  await orderly.leave();
  const lost = await Client.connect("will", options);
  lost.inner.stream.destroy();
  assert.deepEqual((await watcher.get(1)).map((m) => m.payload), ["gone"]);
  await watcher.leave();
  ok("a will goes out when a client is lost, not when it leaves");
}

async function shared() {
  const members = await Promise.all(numbers(3).map((n) => Client.connect(`member-${n}`)));
  for (const member of members) await member.subscribe(`$share/workers/${run}/jobs/#`, 1);
  const publisher = await Client.connect("jobs");
  for (const n of numbers(30)) await publisher.publish(`${run}/jobs/${n}`, String(n), { qos: 1 });
  const all = async () => {
    while (members.reduce((sum, m) => sum + m.messages.length, 0) < 30) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  await soon(all(), "30 jobs");
  const shares = members.map((m) => m.messages.length);
  const every = members.flatMap((m) => m.messages.map((one) => Number(one.payload)));
  assert.deepEqual(every.sort((a, b) => a - b), numbers(30));
  assert.ok(Math.min(...shares) > 0, `${shares}`);
  for (const client of [...members, publisher]) await client.leave();
  ok("a shared subscription: each job to one worker, all of them at work");
}

// The library connects again by itself and goes on with its session.
async function reconnect() {
  const more = { clean: false, reconnectPeriod: 50 };
  const client = await Client.connect("reconnects", more);
  await client.subscribe(`${run}/again`, 2);
  const other = await Client.connect("other");
  for (const n of numbers(20)) {
    if (n % 5 === 4) client.inner.stream.destroy();
    await other.publish(`${run}/again`, String(n), { qos: 2 });
  }
  assert.deepEqual((await client.get(20)).map((m) => Number(m.payload)), numbers(20));
  await client.leave();
  const last = await Client.connect("reconnects", { clean: true });
  await last.leave();
  await other.leave();
  ok("QoS 2 stays exactly once over reconnects of the library");
}

async function request() {
  const [server, asker] = [await Client.connect("server"), await Client.connect("asker")];
  await server.subscribe(`${run}/ask`, 1, { properties: { subscriptionIdentifier: 7 } });
  await asker.subscribe(`${run}/answer`, 1);
  const properties = {
    responseTopic: `${run}/answer`,
    correlationData: Buffer.from([0, 255, 7]),
    userProperties: { b: ["1", "3"], a: "2" },
    contentType: "text/plain",
    messageExpiryInterval: 100,
  };
  await asker.publish(`${run}/ask`, "?", { qos: 1, properties });
  const [{ packet }] = await server.get(1);
  assert.equal(packet.properties.subscriptionIdentifier, 7);
  assert.deepEqual({ ...packet.properties.userProperties }, { b: ["1", "3"], a: "2" });
  assert.equal(packet.properties.contentType, "text/plain");
  const { responseTopic, correlationData } = packet.properties;
  await server.publish(responseTopic, "!", { qos: 1, properties: { correlationData } });
  const [answer] = await asker.get(1);
  assert.deepEqual([...answer.packet.properties.correlationData], [0, 255, 7]);
  await server.leave();
  await asker.leave();
  ok("request and response, properties in order");
}

await session();
await retained();
await will();
await shared();
await reconnect();
if (five) await request();
process.exit(0);
