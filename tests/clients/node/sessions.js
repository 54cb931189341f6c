// What becomes of a session when its connection is cut, when nothing gets through, and when it is shown elsewhere.
'use strict';

const { HOSTS, Queue, assert, event, test, zookeeper } = require('./harness');
const Proxy = require('./proxy');
const { ACL, CreateMode } = zookeeper;

test('handshake-has-44-bytes', async (t) => {
  const proxy = await Proxy.start(t);
  const zk = await t.client(proxy.address);
  assert.strictEqual(proxy.handshake, 44);
  assert(await zk.exists('/zookeeper'));
});

test('session-survives-a-cut', async (t) => {
  const proxy = await Proxy.start(t);
  const zk = await t.client(proxy.address);
  await zk.create(t.path + '/e', '', CreateMode.EPHEMERAL);
  const before = zk.session;
  for (let i = 0; i < 3; i += 1) {
    proxy.cut();
    await zk.state('DISCONNECTED');
    await zk.state('SYNC_CONNECTED');
    assert.strictEqual(zk.session, before);
    assert.strictEqual((await zk.exists(t.path + '/e')).ephemeralOwner.toString('hex'), before);
  }
});

test('watches-catch-up-after-a-cut', async (t) => {
  const proxy = await Proxy.start(t);
  const [zk, other] = [await t.client(proxy.address), await t.client()];
  const events = {};
  for (const name of ['changed', 'deleted', 'created', 'parent', 'quiet', 'later']) {
    events[name] = new Queue();
    if (name === 'created' || name === 'later') {
      await zk.exists(t.path + '/' + name, events[name].push);
    } else {
      await zk.create(t.path + '/' + name);
      await zk.call(name === 'parent' ? 'getChildren' : 'getData', t.path + '/' + name, events[name].push);
    }
  }
  proxy.swallow();
  await other.set(t.path + '/changed', '');
  await other.remove(t.path + '/deleted');
  await other.create(t.path + '/created');
  await other.create(t.path + '/parent/child');
  proxy.heal();
  await zk.state('DISCONNECTED');
  await zk.state('SYNC_CONNECTED');
  await event(events.changed, 'NODE_DATA_CHANGED', t.path + '/changed');
  await event(events.deleted, 'NODE_DELETED', t.path + '/deleted');
  await event(events.created, 'NODE_CREATED', t.path + '/created');
  await event(events.parent, 'NODE_CHILDREN_CHANGED', t.path + '/parent');
  // What did not change in between is watched on.
  await other.set(t.path + '/quiet', '');
  await event(events.quiet, 'NODE_DATA_CHANGED', t.path + '/quiet');
  await other.create(t.path + '/later');
  await event(events.later, 'NODE_CREATED', t.path + '/later');
});

test('auth-is-given-again-after-a-cut', async (t) => {
  const proxy = await Proxy.start(t);
  const zk = await t.client(proxy.address);
  zk.raw.addAuthInfo('digest', Buffer.from('anna:secret'));
  await zk.create(t.path + '/n', 'mine', ACL.CREATOR_ALL_ACL);
  proxy.cut();
  await zk.state('DISCONNECTED');
  await zk.state('SYNC_CONNECTED');
  assert.strictEqual((await zk.get(t.path + '/n')).data, 'mine');
});

test('session-is-taken-over-by-a-second-client', async (t) => {
  const proxy = await Proxy.start(t);
  const first = await t.client(proxy.address);
  await first.create(t.path + '/e', '', CreateMode.EPHEMERAL);
  const shown = { sessionId: first.raw.getSessionId(), sessionPassword: first.raw.getSessionPassword() };
  // The first client must not fight for its session: from here on it hears nothing, not even that it was cut off.
  proxy.swallow();
  const second = await t.client(HOSTS, shown);
  assert.strictEqual(second.session, first.session);
  assert.strictEqual((await second.exists(t.path + '/e')).ephemeralOwner.toString('hex'), first.session);
});

test('session-with-a-wrong-password-is-expired', async (t) => {
  const proxy = await Proxy.start(t);
  const first = await t.client(proxy.address);
  await first.create(t.path + '/e', '', CreateMode.EPHEMERAL);
  const shown = { sessionId: first.raw.getSessionId(), sessionPassword: first.raw.getSessionPassword() };
  proxy.close();
  await first.state('DISCONNECTED');
  const thief = zookeeper.createClient(HOSTS, { ...shown, sessionPassword: Buffer.alloc(16, 1) });
  const states = new Queue();
  thief.on('state', (state) => states.push(state.name));
  thief.connect();
  assert.strictEqual(await states.next('the refusal'), 'EXPIRED');
  // The session itself took no harm.
  const second = await t.client(HOSTS, shown);
  assert.strictEqual((await second.exists(t.path + '/e')).ephemeralOwner.toString('hex'), first.session);
});

test('session-expires-when-nothing-gets-through', async (t) => {
  const proxy = await Proxy.start(t);
  // The server rounds up to its minimum, usually twice its tick.
  const [zk, other, events] = [await t.client(proxy.address, { sessionTimeout: 1000 }), await t.client(), new Queue()];
  await zk.create(t.path + '/e', '', CreateMode.EPHEMERAL);
  await other.catchUp();
  await other.get(t.path + '/e', events.push);
  proxy.swallow();
  await event(events, 'NODE_DELETED', t.path + '/e');
  proxy.heal();
  // This client stays expired; it does not open another session by itself.
  await zk.state('EXPIRED');
});
