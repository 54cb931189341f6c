// Every request that node-zookeeper-client can send. Its first request carries xid 0.
'use strict';

const crypto = require('crypto');
const { HOSTS, assert, fails, interrupts, test, within, zookeeper } = require('./harness');
const { ACL, CreateMode, Id, Permission } = zookeeper;

const long = (buffer) => buffer.readBigInt64BE(0);

test('create-get-set-remove', async (t) => {
  const zk = await t.client();
  const path = t.path + '/n';
  assert.strictEqual(await zk.create(path, 'one'), path);
  const { data, stat } = await zk.get(path);
  assert.strictEqual(data, 'one');
  assert.deepStrictEqual([stat.version, stat.cversion, stat.aversion, stat.dataLength, stat.numChildren], [0, 0, 0, 3, 0]);
  assert.strictEqual(long(stat.ephemeralOwner), 0n);
  const changed = await zk.set(path, 'three', 0);
  assert.deepStrictEqual([changed.version, changed.dataLength, long(changed.czxid)], [1, 5, long(stat.czxid)]);
  assert(long(changed.mzxid) > long(stat.mzxid), 'a write has a later zxid');
  await zk.remove(path, 1);
  assert.strictEqual(await zk.exists(path), null);
});

test('data-null-empty-and-large', async (t) => {
  const zk = await t.client();
  await zk.create(t.path + '/null');
  assert.strictEqual((await zk.get(t.path + '/null')).data, undefined);
  await zk.create(t.path + '/empty', '');
  assert.strictEqual((await zk.get(t.path + '/empty')).data, '');
  const text = 'x'.repeat(1000000);
  await zk.create(t.path + '/large', text);
  assert((await zk.get(t.path + '/large')).data === text, 'a megabyte comes back');
});

test('errors-have-their-kinds', async (t) => {
  const zk = await t.client();
  await zk.create(t.path + '/full');
  await zk.create(t.path + '/full/child');
  await fails('NODE_EXISTS', zk.create(t.path + '/full'));
  await fails('NO_NODE', zk.create(t.path + '/none/child'));
  await fails('NO_NODE', zk.get(t.path + '/none'));
  await fails('NO_NODE', zk.children(t.path + '/none'));
  await fails('NO_NODE', zk.set(t.path + '/none', ''));
  await fails('NO_NODE', zk.remove(t.path + '/none'));
  await fails('NO_NODE', zk.acl(t.path + '/none'));
  await fails('NO_NODE', zk.call('setACL', t.path + '/none', ACL.OPEN_ACL_UNSAFE));
  await fails('NOT_EMPTY', zk.remove(t.path + '/full'));
  await fails('BAD_VERSION', zk.remove(t.path + '/full', 9));
  await fails('BAD_VERSION', zk.set(t.path + '/full', '', 9));
  await fails('BAD_VERSION', zk.call('setACL', t.path + '/full', ACL.OPEN_ACL_UNSAFE, 9));
  await fails('INVALID_ACL', zk.create(t.path + '/n', '', [new ACL(31, new Id('nonesuch', 'x'))]));
  await fails('INVALID_ACL', zk.create(t.path + '/n', '', ACL.CREATOR_ALL_ACL));
  await zk.create(t.path + '/e', '', CreateMode.EPHEMERAL);
  await fails('NO_CHILDREN_FOR_EPHEMERALS', zk.create(t.path + '/e/child'));
});

test('children-and-stat', async (t) => {
  const zk = await t.client();
  for (const name of ['a', 'b', 'c']) await zk.create(t.path + '/' + name);
  await zk.remove(t.path + '/b');
  const { names, stat } = await zk.children(t.path);
  assert.deepStrictEqual([names, stat.numChildren, stat.cversion], [['a', 'c'], 2, 4]);
});

test('sequential-modes', async (t) => {
  const zk = await t.client();
  assert.strictEqual(await zk.create(t.path + '/s-', '', CreateMode.PERSISTENT_SEQUENTIAL), t.path + '/s-0000000000');
  await zk.create(t.path + '/plain');
  const path = await zk.create(t.path + '/s-', '', CreateMode.EPHEMERAL_SEQUENTIAL);
  assert.strictEqual(path, t.path + '/s-0000000002');
  assert.strictEqual((await zk.exists(path)).ephemeralOwner.toString('hex'), zk.session);
});

test('ephemerals-go-with-their-session', async (t) => {
  const [zk, other] = [await t.client(), await t.client()];
  await other.create(t.path + '/e', 'x', CreateMode.EPHEMERAL);
  await zk.catchUp();
  assert.strictEqual((await zk.exists(t.path + '/e')).ephemeralOwner.toString('hex'), other.session);
  await other.close();
  // `close` resolves when the server has answered, and closeSession is a write like any other.
  const last = await t.client();
  assert.strictEqual(await last.exists(t.path + '/e'), null);
});

test('mkdirp-and-remove-recursive', async (t) => {
  const zk = await t.client();
  await zk.call('mkdirp', t.path + '/a/b/c', Buffer.from('deep'));
  assert.strictEqual((await zk.get(t.path + '/a/b/c')).data, 'deep');
  await zk.create(t.path + '/a/x');
  const [tree] = await zk.call('listSubTreeBFS', t.path + '/a/b');
  assert.deepStrictEqual(tree, [t.path + '/a/b', t.path + '/a/b/c']);
  await zk.call('removeRecursive', t.path + '/a/b');
  assert.deepStrictEqual((await zk.children(t.path + '/a')).names, ['x']);
});

test('pipelined-replies-keep-their-order', async (t) => {
  const zk = await t.client();
  const order = [];
  const note = (name) => () => order.push(name);
  const work = [];
  const want = [];
  for (let i = 0; i < 100; i += 1) {
    work.push(zk.create(`${t.path}/n${i}`, String(i)).then(note('create' + i)));
    work.push(zk.get(`${t.path}/n${i}`).then(({ data }) => order.push('get' + data)));
    work.push(zk.set(`${t.path}/n${i}`, 'new').then(note('set' + i)));
    want.push('create' + i, 'get' + i, 'set' + i);
  }
  await Promise.all(work);
  assert.deepStrictEqual(order, want);
});

test('chroot', async (t) => {
  const [zk, inside] = [await t.client(), await t.client(HOSTS + t.path)];
  assert.strictEqual(await inside.create('/a', 'in'), '/a');
  await zk.catchUp();
  assert.strictEqual((await zk.get(t.path + '/a')).data, 'in');
  assert.deepStrictEqual((await inside.children('/')).names, ['a']);
  const seen = new Promise((resolve) => inside.get('/a', resolve));
  await inside.exists('/a');
  await zk.set(t.path + '/a', 'out');
  assert.strictEqual((await within(seen, 'the event')).path, '/a');
});

function commit(transaction) {
  const done = new Promise((resolve, reject) => {
    transaction.commit((error, results) => (interrupts(error) ? reject(error) : resolve({ error, results })));
  });
  return within(done, 'commit');
}

test('transaction-commits-as-one', async (t) => {
  const zk = await t.client();
  await zk.create(t.path + '/old');
  await zk.create(t.path + '/checked');
  await zk.set(t.path + '/checked', '');
  const { error, results } = await commit(zk.raw.transaction()
    .create(t.path + '/a', Buffer.from('1'))
    .create(t.path + '/a/s-', CreateMode.PERSISTENT_SEQUENTIAL)
    .check(t.path + '/checked', 1)
    .setData(t.path + '/a', Buffer.from('2'))
    .remove(t.path + '/old'));
  assert.ifError(error);
  assert.deepStrictEqual([results[0].path, results[1].path], [t.path + '/a', t.path + '/a/s-0000000000']);
  assert.deepStrictEqual([results[3].stat.version, results.length], [1, 5]);
  const [one, two] = [await zk.exists(t.path + '/a'), await zk.exists(results[1].path)];
  assert.deepStrictEqual([long(one.czxid), long(one.mzxid)], [long(two.czxid), long(two.czxid)], 'one zxid for all');
  assert.strictEqual(await zk.exists(t.path + '/old'), null);
});

test('transaction-fails-as-one', async (t) => {
  const zk = await t.client();
  await zk.create(t.path + '/a', '0');
  for (const [spoil, name] of [
    [(tx) => tx.check(t.path + '/a', 9), 'BAD_VERSION'],
    [(tx) => tx.create(t.path + '/a'), 'NODE_EXISTS'],
    [(tx) => tx.setData(t.path + '/none', Buffer.from('')), 'NO_NODE'],
    [(tx) => tx.remove(t.path), 'NOT_EMPTY'],
  ]) {
    const tx = zk.raw.transaction().create(t.path + '/b');
    spoil(tx);
    const { error, results } = await commit(tx.remove(t.path + '/a'));
    assert.strictEqual(error && error.name, name);
    assert.deepStrictEqual(results.map((one) => one.err), [0, error.code, -2]);
    assert.strictEqual(await zk.exists(t.path + '/b'), null);
  }
  assert.strictEqual((await zk.get(t.path + '/a')).data, '0');
});

test('acls', async (t) => {
  const zk = await t.client();
  await zk.create(t.path + '/n', '', ACL.READ_ACL_UNSAFE);
  assert.deepStrictEqual(await zk.acl(t.path + '/n'), [[1, 'world', 'anyone']]);
  await fails('NO_AUTH', zk.set(t.path + '/n', ''));
  await fails('NO_AUTH', zk.create(t.path + '/n/child'));
  await fails('NO_AUTH', zk.call('setACL', t.path + '/n', ACL.OPEN_ACL_UNSAFE));
  await zk.create(t.path + '/open');
  const two = [new ACL(Permission.READ | Permission.ADMIN, Id.ANYONE_ID_UNSAFE), new ACL(31, new Id('ip', '10.0.0.0/8'))];
  assert.strictEqual((await zk.call('setACL', t.path + '/open', two, 0))[0].aversion, 1);
  assert.deepStrictEqual(await zk.acl(t.path + '/open'), [[17, 'world', 'anyone'], [31, 'ip', '10.0.0.0/8']]);
});

test('digest-auth', async (t) => {
  const [owner, stranger] = [await t.client(), await t.client()];
  const hash = crypto.createHash('sha1').update('anna:secret').digest('base64');
  owner.raw.addAuthInfo('digest', Buffer.from('anna:secret'));
  await owner.create(t.path + '/n', 'mine', ACL.CREATOR_ALL_ACL);
  assert.deepStrictEqual(await owner.acl(t.path + '/n'), [[31, 'digest', 'anna:' + hash]]);
  await stranger.catchUp();
  await fails('NO_AUTH', stranger.get(t.path + '/n'));
  stranger.raw.addAuthInfo('digest', Buffer.from('anna:wrong'));
  await fails('NO_AUTH', stranger.get(t.path + '/n'));
  stranger.raw.addAuthInfo('digest', Buffer.from('anna:secret'));
  assert.strictEqual((await stranger.get(t.path + '/n')).data, 'mine');
});

test('unknown-auth-scheme', async (t) => {
  const zk = await t.client();
  zk.raw.addAuthInfo('nonesuch', Buffer.from('x:y'));
  await zk.state('AUTH_FAILED');
});
