// mqtt.js against a broker.
//
// Usage: mqttjs_cases.js [SCHEME://]HOST:PORT [SKIPPED,...], see rig.py
// The module `mqtt` is looked up in the working directory. Output and exit status are those of
// rig.py: `ok NAME` or `FAIL NAME: why`, 1 if a case failed, 64 if it was called wrongly.

'use strict'

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const fs = require('node:fs')
const { createRequire } = require('node:module')
const mqtt = createRequire(`${process.cwd()}/`)('mqtt')

const DEADLINE_MS = 20_000
const CASE_DEADLINE_MS = 90_000
// mqtt.js does not heed the receive maximum of the broker.
const WINDOW = 10
// Enough client ids per role that both of two shards are home to some.
const SPREAD = 8
const RUN = crypto.randomBytes(4).toString('hex')
const V31 = { protocolId: 'MQIsdp', protocolVersion: 3 }
const V311 = { protocolVersion: 4 }
const V5 = { protocolVersion: 5 }

const unique = (name) => `${name}-${RUN}`
const numbers = (count) => [...Array(count).keys()]

// Resolves when `subscribe` calls back, rejects at the deadline.
function within (what, subscribe, deadlineMs = DEADLINE_MS) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`waited ${deadlineMs / 1000} s for ${what}`)), deadlineMs)
    subscribe((value) => {
      clearTimeout(timer)
      resolve(value)
    })
  })
}

// Runs `action` for each item in order, `WINDOW` of them at a time.
async function pipelined (items, action) {
  for (let start = 0; start < items.length; start += WINDOW) {
    await Promise.all(items.slice(start, start + WINDOW).map(action))
  }
}

class Client {
  constructor (address, id, options) {
    this.id = id
    this.messages = []
    this.waiting = []
    this.mqtt = mqtt.connect({
      ...address, clientId: id, reconnectPeriod: 0, connectTimeout: DEADLINE_MS, ...options
    })
    this.mqtt.on('error', (error) => {
      if (error.code !== 'ECONNREFUSED') return
      console.log(`FAIL ${id}: ${error.message}; the broker is gone, no case can follow`)
      process.exit(1)
    })
    this.closed = new Promise((resolve) => this.mqtt.once('close', resolve))
    this.mqtt.on('disconnect', (packet) => { this.toldToGo = packet.reasonCode })
    this.mqtt.on('message', (topic, payload, packet) => {
      this.messages.push({ topic, payload, packet })
      this.waiting = this.waiting.filter((look) => !look())
    })
  }

  async connected () {
    this.connack = await within(`${this.id}: CONNACK`, (done) => this.mqtt.once('connect', done))
    return this
  }

  async subscribe (filters, options = { qos: 2 }) {
    return this.mqtt.subscribeAsync(filters, options)
  }

  publish (topic, payload, options) {
    return this.mqtt.publishAsync(topic, payload, options)
  }

  received (count, deadlineMs) {
    return within(`${this.id}: ${count} messages, has ${this.messages.length}`, (done) => {
      const look = () => this.messages.length >= count && (done(this.messages), true)
      if (!look()) this.waiting.push(look)
    }, deadlineMs)
  }

  async expectPayloads (payloads) {
    await this.received(payloads.length)
    assert.deepEqual(this.messages.map((message) => message.payload.toString()), payloads)
  }

  // SUBACK comes after all that the broker sent before.
  async expectNoMore (count) {
    await this.subscribe(`round-trip/${this.id}`)
    assert.equal(this.messages.length, count)
  }

  end () {
    return this.mqtt.endAsync()
  }

  async drop () {
    this.mqtt.stream.destroy()
    await within(`${this.id}: close`, (done) => this.closed.then(done))
  }
}

const connect = (address, id, options) => new Client(address, id, options).connected()
const connectAll = (address, role, options) =>
  Promise.all(numbers(SPREAD).map((n) => connect(address, unique(`${role}${n}`), options)))
const endAll = (clients) => Promise.all(clients.map((client) => client.end()))
const sessionKept = (version) => version === V5
  ? { ...V5, clean: false, properties: { sessionExpiryInterval: 300 } }
  : { ...version, clean: false }

// The lower of both QoS arrives, from every publisher at every subscriber.
async function qosBothWays (address, version) {
  const topic = unique('jsqos')
  const subscribers = await connectAll(address, 'js', version)
  const publishers = await connectAll(address, 'jp', version)
  for (const [n, client] of subscribers.entries()) {
    const [grant] = await client.subscribe(`${topic}/+`, { qos: n % 3 })
    assert.equal(grant.qos, n % 3)
  }
  await Promise.all(publishers.flatMap((client, n) =>
    numbers(3).map((qos) => client.publish(`${topic}/${n}`, `${qos}`, { qos }))))
  for (const [n, client] of subscribers.entries()) {
    await client.received(3 * SPREAD)
    const found = client.messages.map(({ topic, payload, packet }) =>
      `${topic} ${payload} ${packet.qos}`)
    const wanted = numbers(SPREAD).flatMap((p) =>
      numbers(3).map((qos) => `${topic}/${p} ${qos} ${Math.min(qos, n % 3)}`))
    assert.deepEqual(found.sort(), wanted.sort())
    await client.expectNoMore(3 * SPREAD)
  }
  await endAll([...publishers, ...subscribers])
}

// Retained messages are replaced, found by wildcard, and cleared.
async function retained (address, version) {
  const topic = unique('jsret')
  const publishers = await connectAll(address, 'jp', version)
  for (const [n, client] of publishers.entries()) {
    await client.publish(`${topic}/${n}`, 'old', { qos: n % 3, retain: true })
    await client.publish(`${topic}/${n}`, 'new', { qos: 1, retain: true })
  }
  for (const client of await connectAll(address, 'js', version)) {
    await client.subscribe(`${topic}/#`)
    await client.received(SPREAD)
    assert.ok(client.messages.every(({ payload, packet }) =>
      payload.toString() === 'new' && packet.retain))
    await client.end()
  }
  for (const [n, client] of publishers.entries()) {
    await client.publish(`${topic}/${n}`, '', { qos: 1, retain: true })
  }
  const late = await connect(address, unique('late'), version)
  await late.subscribe(`${topic}/#`)
  await late.expectNoMore(0)
  await endAll([late, ...publishers])
}

// A lost connection publishes the will, end() does not.
async function will (address, version) {
  const topic = unique('jswill')
  const watchers = await connectAll(address, 'js', version)
  for (const watcher of watchers) await watcher.subscribe(topic)
  const wish = (payload) => ({ ...version, will: { topic, payload, qos: 1, retain: false } })
  await endAll(await connectAll(address, 'jw', wish('wrong')))
  for (const client of await connectAll(address, 'jw', wish('gone'))) await client.drop()
  for (const watcher of watchers) {
    await watcher.expectPayloads(Array(SPREAD).fill('gone'))
    await watcher.expectNoMore(SPREAD)
  }
  await endAll(watchers)
}

// What was published while offline comes after the resume, in order.
async function resumed (address, version) {
  const topic = unique('jsq')
  const before = await connectAll(address, 'jr', sessionKept(version))
  for (const client of before) await client.subscribe(`${topic}/+`)
  await endAll(before)
  const publisher = await connect(address, unique('jp'), version)
  const payloads = numbers(50).map(String)
  for (const qos of [1, 2]) {
    await pipelined(payloads, (text) => publisher.publish(`${topic}/${qos}`, text, { qos }))
  }
  for (const n of numbers(SPREAD)) {
    const client = await connect(address, unique(`jr${n}`), sessionKept(version))
    // The flag came with 3.1.1.
    assert.ok(client.connack.sessionPresent || version === V31, 'no session present')
    await client.received(2 * payloads.length)
    for (const qos of [1, 2]) {
      const found = client.messages.filter(({ topic: name }) => name === `${topic}/${qos}`)
      assert.deepEqual(found.map(({ payload }) => payload.toString()), payloads)
      assert.ok(found.every(({ packet }) => packet.qos === qos))
    }
    await client.expectNoMore(2 * payloads.length)
    await client.end()
    await (await connect(address, unique(`jr${n}`), { ...version, clean: true })).end()
  }
  await publisher.end()
}

// The second connection with an id ends the first.
async function takenOver (address, version) {
  const first = await connectAll(address, 'jt', version)
  const second = await connectAll(address, 'jt', version)
  for (const client of first) {
    await within(`${client.id}: close`, (done) => client.closed.then(done))
    if (version === V5) assert.equal(client.toldToGo, 0x8e, 'reason of the DISCONNECT')
  }
  for (const client of second) {
    await client.subscribe(client.id)
    await client.publish(client.id, 'alive', { qos: 2 })
    await client.expectPayloads(['alive'])
  }
  await endAll(second)
}

async function oneMegabyte (address, version) {
  const topic = unique('jslarge')
  const subscribers = await connectAll(address, 'js', version)
  for (const client of subscribers) await client.subscribe(topic)
  const publisher = await connect(address, unique('jp'), version)
  const body = crypto.randomBytes(1 << 20)
  for (const qos of [0, 1, 2]) {
    await publisher.publish(topic, body, { qos })
    for (const client of subscribers) {
      await client.received(qos + 1)
      assert.equal(client.messages[qos].packet.qos, qos)
      assert.ok(client.messages[qos].payload.equals(body), 'the payload was changed')
    }
  }
  await endAll([publisher, ...subscribers])
}

// 100 topics × 100 messages per QoS, complete and in order per topic.
async function ordered (address, version) {
  const [topics, rounds] = [100, 100]
  const topic = unique('jsorder')
  const subscribers = await connectAll(address, 'js', version)
  // More publishers than elsewhere, so that a round is within the window of each.
  const publishers = [
    ...await connectAll(address, 'jp', version), ...await connectAll(address, 'jq', version)
  ]
  for (const [n, client] of subscribers.entries()) {
    const mine = numbers(topics).filter((t) => t % SPREAD === n)
    await client.subscribe(mine.map((t) => `${topic}/${t}`))
  }
  for (const qos of [0, 1, 2]) {
    for (const client of subscribers) client.messages.length = 0
    for (const round of numbers(rounds)) {
      await Promise.all(numbers(topics).map((t) =>
        publishers[t % publishers.length].publish(`${topic}/${t}`, `${round}`, { qos })))
    }
    for (const [n, client] of subscribers.entries()) {
      const mine = numbers(topics).filter((t) => t % SPREAD === n)
      await client.received(mine.length * rounds)
      for (const t of mine) {
        const found = client.messages.filter((message) => message.topic === `${topic}/${t}`)
        assert.deepEqual(found.map(({ payload }) => Number(payload)), numbers(rounds))
        assert.ok(found.every(({ packet }) => packet.qos === qos))
      }
    }
  }
  await endAll([...publishers, ...subscribers])
}

// A group gets each message once and no member starves.
async function shared (address, version) {
  const topic = unique('jsshare')
  const count = 800
  const members = await connectAll(address, 'jm', version)
  for (const client of members) await client.subscribe(`$share/js/${topic}/+`)
  const publishers = await connectAll(address, 'jp', version)
  await pipelined(numbers(count), (n) =>
    publishers[n % SPREAD].publish(`${topic}/${n}`, '', { qos: 1 + n % 2 }))
  const all = () => members.flatMap((client) => client.messages.map((message) => message.topic))
  await within(`${count} messages of the group`, (done) => {
    const look = () => all().length >= count && (done(), true)
    if (!look()) for (const client of members) client.waiting.push(look)
  })
  for (const client of members) await client.subscribe(`round-trip/${client.id}`)
  assert.equal(all().length, count)
  assert.equal(new Set(all()).size, count)
  const least = Math.min(...members.map((client) => client.messages.length))
  assert.ok(least >= count / SPREAD / 4, `a member got ${least} of ${count}`)
  await endAll([...members, ...publishers])
}

// Properties arrive as they were sent.
async function properties (address) {
  const topic = unique('jsprops')
  const publisher = await connect(address, unique('jp'), V5)
  const sent = {
    payloadFormatIndicator: true,
    messageExpiryInterval: 600,
    contentType: 'text/plain',
    responseTopic: `${topic}/back`,
    correlationData: Buffer.from([0, 255]),
    userProperties: { a: ['1', '2'], b: 'ü' }
  }
  for (const client of await connectAll(address, 'js', V5)) {
    await client.subscribe(topic, { qos: 2, properties: { subscriptionIdentifier: 77 } })
    await publisher.publish(topic, 'x', { qos: 1, properties: sent })
    await client.received(1)
    const found = client.messages[0].packet.properties
    assert.equal(found.subscriptionIdentifier, 77)
    assert.ok(found.messageExpiryInterval > 590 && found.messageExpiryInterval <= 600)
    assert.deepEqual({ ...found.userProperties }, sent.userProperties)
    for (const name of ['payloadFormatIndicator', 'contentType', 'responseTopic']) {
      assert.equal(found[name], sent[name], name)
    }
    assert.ok(found.correlationData.equals(sent.correlationData))
    await client.end()
  }
  await publisher.end()
}

// mqtt.js assigns aliases by itself when the broker takes them, and resolves those it gets.
async function aliases (address) {
  const topic = unique('jsalias')
  const options = { ...V5, autoAssignTopicAlias: true, properties: { topicAliasMaximum: 4 } }
  const subscribers = await connectAll(address, 'js', options)
  for (const client of subscribers) await client.subscribe(`${topic}/+`)
  const publishers = await connectAll(address, 'jp', options)
  for (const [n, client] of publishers.entries()) {
    assert.ok(client.connack.properties.topicAliasMaximum >= 1, 'the broker takes no aliases')
    for (const m of numbers(30)) await client.publish(`${topic}/${m % 6}`, `${n}`, { qos: 1 })
  }
  for (const client of subscribers) {
    await client.received(30 * SPREAD)
    const counts = numbers(6).map((m) =>
      client.messages.filter((message) => message.topic === `${topic}/${m}`).length)
    assert.deepEqual(counts, Array(6).fill(5 * SPREAD))
  }
  await endAll([...publishers, ...subscribers])
}

// Request and response between clients of different ids.
async function requestResponse (address) {
  const topic = unique('jsrpc')
  const servers = await connectAll(address, 'js', V5)
  for (const [n, server] of servers.entries()) {
    await server.subscribe(`${topic}/${n}`)
    server.mqtt.on('message', (_, payload, { properties: { responseTopic, correlationData } }) =>
      server.publish(responseTopic, `${payload}!`, { qos: 1, properties: { correlationData } }))
  }
  for (const [n, client] of (await connectAll(address, 'jc', V5)).entries()) {
    const responseTopic = `${topic}/back/${client.id}`
    const correlationData = Buffer.from(client.id)
    await client.subscribe(responseTopic)
    await client.publish(
      `${topic}/${n}`, 'hello', { qos: 1, properties: { responseTopic, correlationData } })
    await client.expectPayloads(['hello!'])
    assert.ok(client.messages[0].packet.properties.correlationData.equals(correlationData))
    await client.end()
  }
  await endAll(servers)
}

// No id: the broker gives one.
async function assignedClientId (address) {
  const clients = await Promise.all(
    numbers(2 * SPREAD).map(() => connect(address, '', { ...V5, clean: true })))
  const ids = clients.map((client) => client.connack.properties.assignedClientIdentifier)
  assert.equal(new Set(ids).size, clients.length)
  assert.ok(ids.every((id) => id))
  await endAll(clients)
}

// Rejects when a case takes too long: mqtt.js never answers a publish whose connection is lost.
function overdue () {
  return new Promise((resolve, reject) =>
    setTimeout(() => reject(new Error('the case does not end')), CASE_DEADLINE_MS))
}

// Options that lead to the broker.
function reach (target) {
  const [scheme, place] = target.includes('://') ? target.split('://') : ['mqtt', target]
  const colon = place.lastIndexOf(':')
  const address = {
    protocol: scheme, host: place.slice(0, colon), port: Number(place.slice(colon + 1))
  }
  const { CULEX_TEST_CA, CULEX_TEST_CERTIFICATE, CULEX_TEST_KEY } = process.env
  const read = (name) => name && fs.readFileSync(name)
  if (scheme === 'mqtts' || scheme === 'wss') {
    Object.assign(address, {
      ca: read(CULEX_TEST_CA), cert: read(CULEX_TEST_CERTIFICATE), key: read(CULEX_TEST_KEY)
    })
  }
  if (scheme === 'wss') address.wsOptions = { ca: address.ca }
  return address
}

async function main () {
  const [, , target, skipped = ''] = process.argv
  if (!target?.includes(':')) {
    console.error('usage: mqttjs_cases.js [SCHEME://]HOST:PORT [SKIPPED,...]')
    process.exit(64)
  }
  const address = reach(target)
  const common = [
    qosBothWays, retained, will, resumed, takenOver, oneMegabyte, ordered, shared
  ]
  const cases = [
    ...common.flatMap((run) => [['3.1', V31], ['3.1.1', V311], ['5', V5]]
      // MQTT 3.1 knows nothing of shared subscriptions, and nobody offers them there.
      .filter(([, version]) => run !== shared || version !== V31)
      .map(([label, version]) => [`${run.name}_${label}`, () => run(address, version)])),
    ...[properties, aliases, requestResponse, assignedClientId]
      .map((run) => [run.name, () => run(address)])
  ]
  let failed = 0
  for (const [name, run] of cases) {
    if (skipped.split(',').includes(name)) {
      console.log(`skip ${name}`)
      continue
    }
    const started = Date.now()
    try {
      await Promise.race([run(), overdue()])
      console.log(`ok ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`)
    } catch (error) {
      failed += 1
      console.log(`FAIL ${name}: ${error.stack}`)
    }
  }
  console.log(`${cases.length} cases, ${failed} failed`)
  process.exit(failed ? 1 : 0)
}

main()
