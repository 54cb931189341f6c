// One-shot watches. The client hands out events and replies in the order of the wire, so that order can be seen here.
'use strict';

const { Queue, assert, event, fails, test, zookeeper } = require('./harness');
const { CreateMode } = zookeeper;

test('watch-data', async (t) => {
  const [zk, other, events] = [await t.client(), await t.client(), new Queue()];
  await zk.create(t.path + '/n');
  await zk.get(t.path + '/n', events.push);
  await other.set(t.path + '/n', '1');
  await event(events, 'NODE_DATA_CHANGED', t.path + '/n');
  await zk.get(t.path + '/n', events.push);
  await other.remove(t.path + '/n');
  await event(events, 'NODE_DELETED', t.path + '/n');
});

test('watch-exists', async (t) => {
  const [zk, other, events] = [await t.client(), await t.client(), new Queue()];
  assert.strictEqual(await zk.exists(t.path + '/n', events.push), null);
  await other.create(t.path + '/n');
  await event(events, 'NODE_CREATED', t.path + '/n');
  await zk.exists(t.path + '/n', events.push);
  await other.set(t.path + '/n', '');
  await event(events, 'NODE_DATA_CHANGED', t.path + '/n');
});

test('watch-children', async (t) => {
  const [zk, other, events] = [await t.client(), await t.client(), new Queue()];
  await zk.children(t.path, events.push);
  await other.create(t.path + '/a');
  await event(events, 'NODE_CHILDREN_CHANGED', t.path);
  assert.deepStrictEqual((await zk.children(t.path, events.push)).names, ['a']);
  await other.remove(t.path + '/a');
  await event(events, 'NODE_CHILDREN_CHANGED', t.path);
});

test('watch-fires-once', async (t) => {
  const [zk, other, events, marker] = [await t.client(), await t.client(), new Queue(), new Queue()];
  await zk.create(t.path + '/n');
  await zk.get(t.path + '/n', events.push);
  await zk.exists(t.path + '/marker', marker.push);
  for (let i = 0; i < 5; i += 1) await other.set(t.path + '/n', String(i));
  await other.create(t.path + '/marker');
  await event(marker, 'NODE_CREATED', t.path + '/marker');
  assert.strictEqual(events.items.length, 1);
});

test('watch-of-a-failed-read', async (t) => {
  const [zk, other] = [await t.client(), await t.client()];
  // Below the client, which would forget a watcher of its own: what comes over the wire.
  const seen = new Queue();
  const manager = zk.raw.connectionManager.watcherManager;
  const emit = manager.emit.bind(manager);
  manager.emit = (one) => {
    seen.push(one.path);
    emit(one);
  };
  await fails('NO_NODE', zk.get(t.path + '/n', () => {}));
  await fails('NO_NODE', zk.children(t.path + '/n', () => {}));
  await zk.exists(t.path + '/marker', () => {});
  await other.create(t.path + '/n');
  await other.create(t.path + '/marker');
  assert.strictEqual(await seen.next('the marker'), t.path + '/marker');
});

test('watch-own-write-is-announced-before-its-reply', async (t) => {
  const zk = await t.client();
  await zk.create(t.path + '/n');
  for (let i = 0; i < 20; i += 1) {
    let heard = false;
    await zk.get(t.path + '/n', () => (heard = true));
    await zk.set(t.path + '/n', String(i));
    assert(heard, 'the reply of the write came before its event');
  }
});

test('watch-event-comes-before-the-new-state', async (t) => {
  const [zk, other] = [await t.client(), await t.client()];
  await zk.create(t.path + '/n', '0');
  for (let i = 1; i <= 30; i += 1) {
    let heard = false;
    await zk.get(t.path + '/n', () => (heard = true));
    const write = other.set(t.path + '/n', String(i));
    // Reads race with the other client's write, many at a time.
    for (let seen = false; !seen;) {
      const reads = [];
      for (let k = 0; k < 8; k += 1) {
        reads.push(zk.get(t.path + '/n').then(({ data }) => {
          if (data === String(i)) {
            seen = true;
            assert(heard, 'a read showed the new state before the event came');
          } else {
            assert.strictEqual(data, String(i - 1));
          }
        }));
      }
      await Promise.all(reads);
    }
    await write;
  }
});

test('watch-order-of-events', async (t) => {
  const [zk, other, events] = [await t.client(), await t.client(), new Queue()];
  const paths = Array.from({ length: 200 }, (_, i) => `${t.path}/n${i}`);
  await Promise.all(paths.map((path) => zk.exists(path, events.push)));
  await Promise.all(paths.map((path) => other.create(path)));
  for (const path of paths) await event(events, 'NODE_CREATED', path);
});

test('watch-ephemeral-of-a-closed-session', async (t) => {
  const [zk, other, events, children] = [await t.client(), await t.client(), new Queue(), new Queue()];
  await other.create(t.path + '/e', '', CreateMode.EPHEMERAL);
  await zk.catchUp();
  await zk.get(t.path + '/e', events.push);
  await zk.children(t.path, children.push);
  await other.close();
  await event(events, 'NODE_DELETED', t.path + '/e');
  await event(children, 'NODE_CHILDREN_CHANGED', t.path);
});

test('watch-transaction-fires-for-each-op', async (t) => {
  const [zk, other, events] = [await t.client(), await t.client(), new Queue()];
  await zk.create(t.path + '/a');
  await zk.get(t.path + '/a', events.push);
  await zk.exists(t.path + '/b', events.push);
  await zk.children(t.path, events.push);
  other.raw.transaction().setData(t.path + '/a', Buffer.from('1')).create(t.path + '/b').commit(() => {});
  await event(events, 'NODE_DATA_CHANGED', t.path + '/a');
  await event(events, 'NODE_CREATED', t.path + '/b');
  await event(events, 'NODE_CHILDREN_CHANGED', t.path);
});
