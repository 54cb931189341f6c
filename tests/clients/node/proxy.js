// A TCP proxy between a client and the servers, with a switch: pass bytes on, swallow them, or cut every connection.
// Of several servers each new connection goes to the next one, so that whoever comes back comes back elsewhere.
'use strict';

const net = require('net');
const { HOSTS } = require('./harness');

class Proxy {
  static async start(one) {
    const proxy = new Proxy();
    await new Promise((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    proxy.address = '127.0.0.1:' + proxy.server.address().port;
    one.atEnd(() => proxy.close());
    return proxy;
  }

  constructor() {
    this.open = new Set();
    this.swallows = false;
    this.handshake = 0; // length of the last connect request that came by
    const targets = HOSTS.split(',');
    let turn = 0;
    this.server = net.createServer((near) => {
      const [host, port] = targets[turn++ % targets.length].split(':');
      const far = net.connect({ host, port: Number(port) });
      near.once('data', (data) => (this.handshake = data.readInt32BE(0)));
      for (const [source, sink] of [[near, far], [far, near]]) {
        this.open.add(source);
        source.setNoDelay();
        source.on('data', (data) => this.swallows || sink.write(data));
        source.on('error', () => {});
        source.on('close', () => {
          this.open.delete(source);
          sink.destroy();
        });
      }
    });
  }

  // Closes every connection that is open now; new ones are welcome.
  cut() {
    for (const one of this.open) one.destroy();
  }

  // Cuts everything and lets nobody in again.
  close() {
    this.server.close();
    this.cut();
  }

  // Connections stay open and nothing goes through, until heal.
  swallow() {
    this.swallows = true;
  }

  // Bytes pass again, on new connections only: what was swallowed tore the streams of the old ones.
  heal() {
    this.swallows = false;
    this.cut();
  }
}

module.exports = Proxy;
