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
// Somebody kills a server of the ensemble now and then. A request may then fail with its connection, and its case begins
// again elsewhere in the tree; every session must be there afterwards, and any other failure is one.
const KILLS = Boolean(process.env.ZK_KILLS);
const BEGINNINGS = 5;

const cases = [];

// `calm`: why the case cannot hold while servers are killed.
function test(name, body, { calm } = {}) {
  cases.push({ name, body, calm });
}

const interrupts = (error) => KILLS && Boolean(error) && error.name === 'CONNECTION_LOSS';

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
    this.chroot = hosts.includes('/');
    this.states = new Queue();
    this.raw.on('state', (state) => {
      if (state.name === 'AUTH_FAILED') this.refused = true;
      this.states.push(state.name);
    });
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

  // This client cannot send a sync. Its server has seen all that was answered to others when it answers a write.
  async catchUp() {
    await this.set(this.chroot ? '/' : ROOT, '');
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
    this.closed = true;
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
    this.sessions = [];
  }

  // A connected client, closed when the case ends. It sees all that was answered to others before it came.
  async client(hosts = HOSTS, options = {}) {
    const client = new Client(hosts, options);
    this.atEnd(() => client.close());
    await client.connect();
    // A client behind a proxy may be meant to lose its session.
    if (hosts === HOSTS) this.sessions.push([client, client.session]);
    await client.catchUp();
    return client;
  }

  // Whoever was not closed still has its session, once it is connected again.
  async sessionsAreKept() {
    for (const [client, session] of this.sessions) {
      if (client.closed || client.refused) continue;
      while (client.raw.getState() !== zookeeper.State.SYNC_CONNECTED) {
        assert.notStrictEqual((await client.states.next('the connection to come back')), 'EXPIRED', 'session after a kill');
      }
      assert.strictEqual(client.session, session, 'session after a kill');
    }
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
    if (interrupts(error)) throw error;
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

// A create that may have to be sent again, and may find that it had succeeded before.
async function createAnyway(client, path) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await client.create(path);
    } catch (error) {
      if (tries > 1 && error.name === 'NODE_EXISTS') return path;
      if (!interrupts(error) || tries > 100) throw error;
    }
  }
}

async function run(words) {
  const chosen = cases.filter((one) => !words.length || words.some((word) => one.name.includes(word)));
  const setup = new Client(HOSTS, {});
  // What the cases hide, they hide behind this identity; the clearing up must see it.
  setup.raw.addAuthInfo('digest', Buffer.from('anna:secret'));
  await setup.connect();
  await createAnyway(setup, ROOT);
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  let thrownNow = () => {};
  process.on('uncaughtException', (error) => thrownNow(error));

  // Runs a case once; returns its error, if any.
  async function begin(name, body) {
    const one = new Case(name);
    try {
      await createAnyway(setup, one.path);
      // What the client throws out of a socket's event belongs to the case that is running.
      const thrown = new Promise((_, reject) => (thrownNow = reject));
      await within(Promise.race([body(one), thrown]), 'the end of the case', CASE_LIMIT_MS);
      if (KILLS) await one.sessionsAreKept();
      return undefined;
    } catch (error) {
      // Awaited here: the clients are closed as soon as this has returned.
      return interrupts(error) ? await one.sessionsAreKept().then(() => error, (lost) => lost) : error;
    } finally {
      await one.end();
    }
  }

  for (const { name, body, calm } of chosen) {
    if (KILLS && calm) {
      skipped += 1;
      console.log(`skip ${name}: ${calm}`);
      continue;
    }
    let error = await begin(name, body);
    for (let i = 2; i <= BEGINNINGS && interrupts(error); i += 1) {
      console.log(`again ${name}: ${error.message}`);
      error = await begin(`${name}-${i}`, body);
    }
    if (error === undefined) {
      passed += 1;
      console.log('ok', name);
    } else {
      failed += 1;
      const where = /\((?:.*\/)?((?:ops|watches|sessions)\.js:\d+)/.exec(error.stack || '');
      console.log(`FAIL ${name}: ${String(error.message || error).replace(/\s+/g, ' ')}${where ? ` (${where[1]})` : ''}`);
      if (process.env.VERBOSE) console.error(error.stack);
    }
  }
  await removeAll(setup, ROOT).catch((error) => console.error(`note: ${ROOT} was left behind: ${error}`));
  await setup.close();
  console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
  process.exit(failed || !passed ? 1 : 0);
}

module.exports = { HOSTS, Queue, assert, event, fails, interrupts, run, test, within, zookeeper };
