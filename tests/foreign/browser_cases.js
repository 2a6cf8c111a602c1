// mqtt.js in a browser against a broker, and the same browser kept out.
//
// Usage: browser_cases.js WS,WSS,WS_OF_OTHER_PAGES,MQTT with URLs of four listeners
// A server here gives the browser its page, which runs each case and posts what came of it. Output
// and exit status are those of rig.py.

'use strict'

const { spawn } = require('node:child_process')
const crypto = require('node:crypto')
const fs = require('node:fs')
const http = require('node:http')
const os = require('node:os')
const path = require('node:path')
const { createRequire } = require('node:module')
const local = createRequire(`${process.cwd()}/`)
const mqtt = local('mqtt')

const DEADLINE_MS = 60_000
const RUN = crypto.randomBytes(4).toString('hex')

const PAGE = `<!doctype html><meta charset="utf-8"><title>MQTT</title>
<script src="/mqtt.js"></script>
<script>
const ask = new URLSearchParams(location.search)
const answer = (body) => fetch('/answer', { method: 'POST', body: JSON.stringify(body) })
const found = { id: ask.get('id'), messages: [] }
const client = mqtt.connect(ask.get('url'), {
  clientId: ask.get('id'), protocolVersion: Number(ask.get('version')), reconnectPeriod: 0
})
client.on('error', (error) => answer({ ...found, error: String(error.message) }))
client.on('close', () => answer({ ...found, error: 'closed' }))
client.on('connect', () => client.subscribe(ask.get('topic') + '/#', { qos: 2 }, (error) => {
  if (error) return answer({ ...found, error: String(error) })
  const big = new Uint8Array(300000).fill(7)
  client.publish(ask.get('topic') + '/zero', 'from the page')
  client.publish(ask.get('topic') + '/one', 'ä☃', { qos: 1 })
  client.publish(ask.get('topic') + '/two', big, { qos: 2 })
}))
client.on('message', (topic, payload, packet) => {
  const text = payload.length > 1000 ? payload.length + ' bytes of ' + payload[0] : String(payload)
  found.messages.push([topic.split('/').pop(), text, packet.qos])
  if (found.messages.length === 4) answer(found)
})
</script>`

// Serves the page; `answered` is called with what it posts.
function serve (answered) {
  const library = fs.readFileSync(path.join('node_modules', 'mqtt', 'dist', 'mqtt.min.js'))
  const server = http.createServer((request, response) => {
    if (request.method === 'POST') {
      let body = ''
      request.on('data', (piece) => { body += piece })
      request.on('end', () => { response.end(); answered(JSON.parse(body)) })
    } else if (request.url.startsWith('/mqtt.js')) {
      response.setHeader('content-type', 'text/javascript').end(library)
    } else if (request.url.startsWith('/page')) {
      response.setHeader('content-type', 'text/html').end(PAGE)
    } else {
      response.writeHead(404).end()
    }
  })
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)))
}

// Opens a page and gives what it posts first.
async function visit (parameters) {
  let server, browser
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'culex-browser-'))
  try {
    const posted = new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error('the page does not answer')), DEADLINE_MS).unref()
      serve(resolve).then((started) => {
        server = started
        const page = new URL(`http://127.0.0.1:${server.address().port}/page`)
        page.search = new URLSearchParams(parameters)
        browser = spawn('chromium', [
          // The sandbox refuses to work for root; the certificate is one of this test.
          '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
          '--ignore-certificate-errors', '--no-first-run', '--disable-background-networking',
          `--user-data-dir=${profile}`, page.href
        ], { stdio: 'ignore', detached: true })
        browser.on('error', reject)
      })
    })
    return await posted
  } finally {
    // Its helpers are in its group.
    if (browser?.pid) try { process.kill(-browser.pid, 'SIGKILL') } catch { /* it has ended */ }
    server?.closeAllConnections?.()
    server?.close()
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 10 })
  }
}

// The page hears itself and a client outside, which hears the page.
async function serves (url, plain, version) {
  const topic = `browser-${RUN}-${version}-${new URL(url).protocol.slice(0, -1)}`
  const outside = mqtt.connect(plain, { reconnectPeriod: 0, clientId: `${topic}-out` })
  const heard = []
  await new Promise((resolve, reject) => {
    outside.on('error', reject)
    outside.on('connect', () => outside.subscribe(`${topic}/two`, { qos: 1 }, resolve))
  })
  const two = new Promise((resolve) => outside.on('message', (name, payload) => {
    heard.push(payload.length)
    outside.publish(`${topic}/outside`, 'hello page', { qos: 1 })
    resolve()
  }))
  const found = await visit({ url, topic, version, id: `${topic}-page` })
  await two
  outside.end(true)
  found.messages.sort()
  const expected = [
    ['one', 'ä☃', 1], ['outside', 'hello page', 1], ['two', '300000 bytes of 7', 2],
    ['zero', 'from the page', 0]
  ]
  if (JSON.stringify(found.messages) !== JSON.stringify(expected) || found.error) {
    throw new Error(`the page found ${JSON.stringify(found)}`)
  }
  if (JSON.stringify(heard) !== '[300000]') throw new Error(`outside was heard ${heard}`)
}

async function keptOut (url) {
  const found = await visit({ url, topic: `out-${RUN}`, version: 4, id: `out-${RUN}` })
  if (!found.error || found.messages.length) throw new Error(`found ${JSON.stringify(found)}`)
}

async function main () {
  const [ws, wss, others, plain] = (process.argv[2] ?? '').split(',')
  if (!plain) {
    console.error('usage: browser_cases.js WS,WSS,WS_OF_OTHER_PAGES,MQTT')
    process.exit(64)
  }
  const cases = [
    ['ws_3.1.1', () => serves(ws, plain, 4)],
    ['ws_5', () => serves(ws, plain, 5)],
    ['wss_3.1.1', () => serves(wss, plain, 4)],
    ['wss_5', () => serves(wss, plain, 5)],
    ['page_of_another_origin', () => keptOut(others)]
  ]
  let failed = 0
  for (const [name, run] of cases) {
    try {
      await run()
      console.log(`ok ${name}`)
    } catch (error) {
      failed += 1
      console.log(`FAIL ${name}: ${error.stack}`)
    }
  }
  console.log(`${cases.length} cases, ${failed} failed`)
  process.exit(failed ? 1 : 0)
}

main()
