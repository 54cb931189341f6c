// What every case needs: a list of cases, clients that end with the case, bounded waits, and one line a result.
'use strict';

const assert = require('assert');
const crypto = require('crypto');
const zookeeper = require('node-zookeeper-client');
const { STATES } = require('node-zookeeper-client/lib/ConnectionManager.js');

const HOSTS = process.env.ZK_HOSTS;
const ROOT = '/rk-node-' + crypto.randomBytes(6).toString('hex');
// The longest a single wait may take; a healthy server answers in milliseconds.
const PATIENCE_MS = 20000;
// The longest a whole case may take before it counts as hung.
const CASE_LIMIT_MS = 45000;

const cases = [];

function test(name, body) {
  cases.push({ name, body });
}

// A promise that is rejected after a while. The timer does not outlive the promise.
function within(promise, what, limit = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('waited in vain for: ' + what)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// The client's calls as promises, and its states and events as queues that can be waited on.
class Client {
  constructor(hosts, options) {
    this.raw = zookeeper.createClient(hosts, { sessionTimeout: 10000, spinDelay: 50, ...options });
    this.states = new Queue();
    this.raw.on('state', (state) => this.states.push(state.name));
  }

  async connect() {
    this.raw.connect();
    await this.state('SYNC_CONNECTED');
  }

  // Reads states until the wanted one comes; others may pass by.
  async state(want) {
    for (;;) {
      if ((await this.states.next('the state ' + want)) === want) return;
    }
  }

  call(name, ...args) {
    const answer = new Promise((resolve, reject) => {
      this.raw[name](...args, (error, ...values) => (error ? reject(error) : resolve(values)));
    });
    return within(answer, name);
  }

  async create(path, data, ...more) {
    return (await this.call('create', path, data === undefined ? undefined : Buffer.from(data), ...more))[0];
  }

  async get(path, watcher) {
    const [data, stat] = await this.call('getData', path, watcher);
    return { data: data && data.toString(), stat };
  }

  async set(path, data, version = -1) {
    return (await this.call('setData', path, Buffer.from(data), version))[0];
  }

  async exists(path, watcher) {
    return (await this.call('exists', path, watcher))[0];
  }

  async children(path, watcher) {
    const [names, stat] = await this.call('getChildren', path, watcher);
    return { names: names.sort(), stat };
  }

  async remove(path, version = -1) {
    await this.call('remove', path, version);
  }

  async acl(path) {
    return (await this.call('getACL', path))[0].map((one) => [one.permission, one.id.scheme, one.id.id]);
  }

  get session() {
    return this.raw.getSessionId().toString('hex');
  }

  // Ends the session. A client that is between two connections must not be asked for it: it would take the next connect
  // response for the answer and die of it. Such a one is only kept from trying again.
  async close() {
    const manager = this.raw.connectionManager;
    if (this.raw.getState() === zookeeper.State.SYNC_CONNECTED) {
      const closed = new Promise((resolve) => manager.on('state', (state) => state === STATES.CLOSED && resolve()));
      this.raw.close();
      await within(closed, 'the end of a client', 2000).catch(() => {});
    }
    manager.setState(STATES.CLOSING);
    manager.connect = () => {};
    manager.onSocketConnected = manager.onSocketData = () => manager.socket.destroy();
    if (manager.socket) manager.socket.destroy();
  }
}

class Queue {
  constructor() {
    this.items = [];
    this.waiting = [];
    this.push = (item) => {
      const first = this.waiting.shift();
      if (first) first(item);
      else this.items.push(item);
    };
  }

  next(what) {
    if (this.items.length) return Promise.resolve(this.items.shift());
    return within(new Promise((resolve) => this.waiting.push(resolve)), what);
  }
}

class Case {
  constructor(name) {
    this.path = ROOT + '/' + name;
    this.ends = [];
  }

  async client(hosts = HOSTS, options = {}) {
    const client = new Client(hosts, options);
    this.atEnd(() => client.close());
    await client.connect();
    return client;
  }

  atEnd(action) {
    this.ends.push(action);
  }

  async end() {
    while (this.ends.length) await this.ends.pop()();
  }
}

// Awaits an error of the client with this name, as in NO_NODE.
async function fails(name, promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    assert.strictEqual(error.name, name);
    return error;
  }
  throw new Error(`no error, got ${JSON.stringify(value)}, want ${name}`);
}

async function event(queue, name, path) {
  const got = await queue.next(`${name} ${path}`);
  assert.strictEqual(`${got.name} ${got.path}`, `${name} ${path}`);
}

// The client's own removeRecursive sees two levels only.
async function removeAll(client, path) {
  for (const name of (await client.children(path)).names) await removeAll(client, path + '/' + name);
  await client.remove(path);
}

async function run(words) {
  const chosen = cases.filter((one) => !words.length || words.some((word) => one.name.includes(word)));
  const setup = new Client(HOSTS, {});
  // What the cases hide, they hide behind this identity; the clearing up must see it.
  setup.raw.addAuthInfo('digest', Buffer.from('anna:secret'));
  await setup.connect();
  await setup.create(ROOT);
  let failed = 0;
  let thrownNow = () => {};
  process.on('uncaughtException', (error) => thrownNow(error));
  for (const { name, body } of chosen) {
    const one = new Case(name);
    try {
      await setup.create(one.path);
      // What the client throws out of a socket's event belongs to the case that is running.
      const thrown = new Promise((_, reject) => (thrownNow = reject));
      await within(Promise.race([body(one), thrown]), 'the end of the case', CASE_LIMIT_MS);
      console.log('ok', name);
    } catch (error) {
      failed += 1;
      const where = /\((?:.*\/)?((?:ops|watches|sessions)\.js:\d+)/.exec(error.stack || '');
      console.log(`FAIL ${name}: ${String(error.message || error).replace(/\s+/g, ' ')}${where ? ` (${where[1]})` : ''}`);
      if (process.env.VERBOSE) console.error(error.stack);
    }
    await one.end();
  }
  await removeAll(setup, ROOT).catch((error) => console.error(`note: ${ROOT} was left behind: ${error}`));
  await setup.close();
  console.log(`${chosen.length - failed} passed, ${failed} failed`);
  process.exit(failed || !chosen.length ? 1 : 0);
}

module.exports = { HOSTS, Queue, assert, event, fails, run, test, within, zookeeper };
