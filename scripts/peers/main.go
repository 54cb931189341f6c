// The client of scripts/compare_peers.sh: one closed loop for ZooKeeper's protocol, etcd's and Consul's, so that what is
// compared has a client of the same language.
//
//	peers wait -client CLIENT -at HOST:PORT [-pid SERVER]   returns once the server takes a write; 60 s at most
//	peers load -client CLIENT -at HOST:PORT                 lays the keys that get and set go to
//	peers run -client CLIENT -at HOST:PORT -op OPERATION [-c CONNECTIONS] [-seconds S] [-pid SERVER] ...
//
// CLIENT is zookeeper, etcd, etcd-serializable, consul or consul-stale. `run` prints one JSON object.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// How long `wait` asks.
	patience = 60 * time.Second
	// Connections over which `load` lays the keys.
	loaders = 64
)

type options struct {
	client, at, op, dir, name string
	connections, keys, size   int
	seconds, warmup           float64
	pid                       int
}

func main() {
	if err := command(); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func command() error {
	if len(os.Args) < 2 {
		return fmt.Errorf("wait, load or run?")
	}
	var o options
	flags := flag.NewFlagSet("peers", flag.ExitOnError)
	flags.StringVar(&o.client, "client", "zookeeper", "whose protocol, and how it reads")
	flags.StringVar(&o.at, "at", "", "HOST:PORT of the server")
	flags.StringVar(&o.op, "op", "get", "get, set or create")
	flags.StringVar(&o.dir, "dir", "new", "a name no other run has: created keys go below it")
	flags.StringVar(&o.name, "name", "", "what the result calls the server")
	flags.IntVar(&o.connections, "c", 64, "connections, each with one request outstanding")
	flags.IntVar(&o.keys, "keys", 1000, "keys that get and set go to")
	flags.IntVar(&o.size, "size", 100, "bytes of a value")
	flags.Float64Var(&o.seconds, "seconds", 8, "measured")
	flags.Float64Var(&o.warmup, "warmup", 1, "seconds of the same load before that")
	flags.IntVar(&o.pid, "pid", 0, "process of the server, for its CPU time and memory")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	switch os.Args[1] {
	case "wait":
		return wait(o)
	case "load":
		return load(o)
	case "run":
		result, err := run(o)
		if err != nil {
			return err
		}
		text, err := json.Marshal(result)
		if err != nil {
			return err
		}
		fmt.Println(string(text))
		return nil
	}
	return fmt.Errorf("no such command: %s", os.Args[1])
}

func wait(o options) error {
	deadline := time.Now().Add(patience)
	for {
		err := firstWrite(o)
		if err == nil {
			return nil
		}
		if o.pid != 0 && syscall.Kill(o.pid, 0) != nil {
			return fmt.Errorf("process %d ended", o.pid)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no write taken within %v: %w", patience, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func firstWrite(o options) error {
	one, err := connect(o.client, o.at)
	if err != nil {
		return err
	}
	defer one.close()
	return one.prepare("/peers")
}

func keyNames(o options) []string {
	names := make([]string, o.keys)
	for i := range names {
		names[i] = fmt.Sprintf("/peers/keys/k%06d", i)
	}
	return names
}

func load(o options) error {
	stores, err := connectAll(o, loaders)
	if err != nil {
		return err
	}
	defer closeAll(stores)
	for _, dir := range []string{"/peers", "/peers/keys"} {
		if err := stores[0].prepare(dir); err != nil {
			return err
		}
	}
	names := keyNames(o)
	var next atomic.Int64
	return together(stores, func(_ int, one store) error {
		for i := next.Add(1) - 1; i < int64(len(names)); i = next.Add(1) - 1 {
			if err := one.create(names[i], make([]byte, o.size)); err != nil {
				return err
			}
		}
		return nil
	})
}

func connectAll(o options, count int) ([]store, error) {
	var stores []store
	for range count {
		one, err := connect(o.client, o.at)
		if err != nil {
			closeAll(stores)
			return nil, err
		}
		stores = append(stores, one)
	}
	return stores, nil
}

func closeAll(stores []store) {
	for _, one := range stores {
		one.close()
	}
}

// together runs the work on every connection at once and returns the first error.
func together(stores []store, work func(int, store) error) error {
	errs := make(chan error, len(stores))
	var all sync.WaitGroup
	for i, one := range stores {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := work(i, one); err != nil {
				errs <- err
			}
		}()
	}
	all.Wait()
	close(errs)
	return <-errs
}
