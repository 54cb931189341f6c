// The three clients behind one face, each unmodified and with a connection of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	consul "github.com/hashicorp/consul/api"
	etcd "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

type store interface {
	// prepare makes dir fit to hold keys, and is a write or at least a request.
	prepare(dir string) error
	get(key string) ([]byte, error)
	set(key string, value []byte) error
	// create writes a key that is new. ZooKeeper checks that it is; the put of the others does not.
	create(key string, value []byte) error
	close()
}

func connect(client, at string) (store, error) {
	switch client {
	case "zookeeper":
		return connectZooKeeper(at)
	case "etcd":
		return connectEtcd(at)
	case "etcd-serializable":
		return connectEtcd(at, etcd.WithSerializable())
	case "consul":
		return connectConsul(at, nil)
	case "consul-stale":
		return connectConsul(at, &consul.QueryOptions{AllowStale: true})
	}
	return nil, fmt.Errorf("no such client: %s", client)
}

type zooKeeper struct{ conn *zk.Conn }

func connectZooKeeper(at string) (store, error) {
	quiet := log.New(io.Discard, "", 0)
	conn, _, err := zk.Connect([]string{at}, 30*time.Second, zk.WithLogger(quiet), zk.WithLogInfo(false))
	if err != nil {
		return nil, err
	}
	return zooKeeper{conn}, nil
}

func (z zooKeeper) prepare(dir string) error {
	err := z.create(dir, nil)
	if errors.Is(err, zk.ErrNodeExists) {
		return nil
	}
	return err
}

func (z zooKeeper) get(key string) ([]byte, error) {
	value, _, err := z.conn.Get(key)
	return value, err
}

func (z zooKeeper) set(key string, value []byte) error {
	_, err := z.conn.Set(key, value, -1)
	return err
}

func (z zooKeeper) create(key string, value []byte) error {
	_, err := z.conn.Create(key, value, 0, zk.WorldACL(zk.PermAll))
	return err
}

func (z zooKeeper) close() { z.conn.Close() }

type etcdStore struct {
	client *etcd.Client
	reads  []etcd.OpOption
}

func connectEtcd(at string, reads ...etcd.OpOption) (store, error) {
	client, err := etcd.New(etcd.Config{Endpoints: []string{at}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	return etcdStore{client, reads}, nil
}

func (e etcdStore) prepare(dir string) error {
	limit, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	_, err := e.client.Put(limit, dir, "")
	return err
}

func (e etcdStore) get(key string) ([]byte, error) {
	answer, err := e.client.Get(context.Background(), key, e.reads...)
	if err != nil {
		return nil, err
	}
	if len(answer.Kvs) == 0 {
		return nil, fmt.Errorf("no key %s", key)
	}
	return answer.Kvs[0].Value, nil
}

func (e etcdStore) set(key string, value []byte) error {
	_, err := e.client.Put(context.Background(), key, string(value))
	return err
}

func (e etcdStore) create(key string, value []byte) error { return e.set(key, value) }

func (e etcdStore) close() { _ = e.client.Close() }

type consulStore struct {
	kv    *consul.KV
	reads *consul.QueryOptions
	drop  func()
}

func connectConsul(at string, reads *consul.QueryOptions) (store, error) {
	config := consul.DefaultConfig()
	config.Address, config.Scheme = at, "http"
	config.Transport.MaxConnsPerHost = 1
	client, err := consul.NewClient(config)
	if err != nil {
		return nil, err
	}
	return consulStore{client.KV(), reads, config.Transport.CloseIdleConnections}, nil
}

func (c consulStore) prepare(dir string) error { return c.set(dir, nil) }

func (c consulStore) get(key string) ([]byte, error) {
	pair, _, err := c.kv.Get(strings.TrimPrefix(key, "/"), c.reads)
	if err != nil {
		return nil, err
	}
	if pair == nil {
		return nil, fmt.Errorf("no key %s", key)
	}
	return pair.Value, nil
}

func (c consulStore) set(key string, value []byte) error {
	_, err := c.kv.Put(&consul.KVPair{Key: strings.TrimPrefix(key, "/"), Value: value}, nil)
	return err
}

func (c consulStore) create(key string, value []byte) error { return c.set(key, value) }

func (c consulStore) close() { c.drop() }
