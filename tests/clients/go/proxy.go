// A TCP proxy between a client and the servers, with a switch: pass bytes on, swallow them, or cut every connection.
// Of several servers each new connection goes to the next one, so that whoever comes back comes back elsewhere.
package main

import (
	"net"
	"sync"
	"sync/atomic"
)

type proxy struct {
	listener  net.Listener
	targets   []string
	swallows  atomic.Bool
	mutex     sync.Mutex
	open      map[net.Conn]bool
	handshake atomic.Int32 // length of the last connect request that came by
}

func (t *T) proxy() *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	t.must(err)
	p := &proxy{listener: listener, targets: hosts, open: map[net.Conn]bool{}}
	t.atEnd(func() { listener.Close(); p.cut() })
	go p.accept()
	return p
}

func (p *proxy) address() []string { return []string{p.listener.Addr().String()} }

// cut closes every connection that is open now; new ones are welcome.
func (p *proxy) cut() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for conn := range p.open {
		conn.Close()
	}
	p.open = map[net.Conn]bool{}
}

// swallow keeps connections open and lets nothing through, until heal.
func (p *proxy) swallow() { p.swallows.Store(true) }

// heal lets bytes pass again, on new connections only: what was swallowed tore the streams of the old ones.
func (p *proxy) heal() {
	p.swallows.Store(false)
	p.cut()
}

func (p *proxy) accept() {
	for turn := 0; ; turn++ {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.targets[turn%len(p.targets)])
		if err != nil {
			near.Close()
			continue
		}
		p.mutex.Lock()
		p.open[near], p.open[far] = true, true
		p.mutex.Unlock()
		go p.pump(near, far, true)
		go p.pump(far, near, false)
	}
}

func (p *proxy) pump(source, sink net.Conn, fromClient bool) {
	buffer := make([]byte, 64*1024)
	for first := true; ; first = false {
		count, err := source.Read(buffer)
		if err != nil {
			break
		}
		if first && fromClient && count >= 4 {
			p.handshake.Store(int32(buffer[3]))
		}
		if !p.swallows.Load() {
			if _, err := sink.Write(buffer[:count]); err != nil {
				break
			}
		}
	}
	source.Close()
	sink.Close()
	p.mutex.Lock()
	delete(p.open, source)
	delete(p.open, sink)
	p.mutex.Unlock()
}
