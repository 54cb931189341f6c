// Every request that go-zookeeper/zk can send, and its helpers.
package main

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

var opCases = []entry{
	{"create-get-set-delete", createGetSetDelete},
	{"large-and-empty-data", largeAndEmptyData},
	{"errors-have-their-kinds", errorsHaveTheirKinds},
	{"children-and-stat", childrenAndStat},
	{"sequence-and-ephemeral-flags", sequenceAndEphemeralFlags},
	{"create-container", createContainer},
	{"create-ttl", createTTL},
	{"create-protected", createProtected},
	{"multi-commits-as-one", multiCommitsAsOne},
	{"multi-fails-as-one", multiFailsAsOne},
	{"sync", syncSeesTheOther},
	{"acls", acls},
	{"digest-auth", digestAuth},
	{"unknown-auth-scheme", unknownAuthScheme},
	{"lock", lock},
	{"lock-is-fair-among-many", lockIsFair},
	{"many-in-flight", manyInFlight},
	{"reconfig-is-refused", reconfigIsRefused},
	{"four-letter-ruok", flwRuok},
	{"four-letter-srvr", flwSrvr},
	{"four-letter-cons", flwCons},
}

func createGetSetDelete(t *T) {
	conn, _ := t.client()
	path := t.path + "/n"
	t.same(t.create(conn, path, "one", 0), path, "path")
	data, stat, err := conn.Get(path)
	t.must(err)
	t.same(string(data), "one", "data")
	t.same([]any{stat.Version, stat.Cversion, stat.Aversion, stat.DataLength, stat.NumChildren, stat.EphemeralOwner},
		[]any{int32(0), int32(0), int32(0), int32(3), int32(0), int64(0)}, "stat")
	changed, err := conn.Set(path, []byte("three"), 0)
	t.must(err)
	t.same([]any{changed.Version, changed.Czxid, changed.DataLength}, []any{int32(1), stat.Czxid, int32(5)}, "stat after set")
	if changed.Mzxid <= stat.Mzxid {
		t.fail("a write has a later zxid")
	}
	t.must(conn.Delete(path, 1))
	exists, _, err := conn.Exists(path)
	t.must(err)
	t.same(exists, false, "exists")
}

func largeAndEmptyData(t *T) {
	conn, _ := t.client()
	for _, size := range []int{0, 1, 100_000, 1_000_000} {
		path := fmt.Sprintf("%s/n%d", t.path, size)
		text := strings.Repeat("x", size)
		t.create(conn, path, text, 0)
		data, stat, err := conn.Get(path)
		t.must(err)
		t.same(string(data) == text, true, "data is the same")
		t.same(stat.DataLength, int32(size), "length")
	}
}

func errorsHaveTheirKinds(t *T) {
	conn, _ := t.client()
	t.create(conn, t.path+"/full", "", 0)
	t.create(conn, t.path+"/full/child", "", 0)
	_, err := conn.Create(t.path+"/full", nil, 0, open)
	t.wants(err, zk.ErrNodeExists, "create")
	_, err = conn.Create(t.path+"/none/child", nil, 0, open)
	t.wants(err, zk.ErrNoNode, "create without parent")
	_, _, err = conn.Get(t.path + "/none")
	t.wants(err, zk.ErrNoNode, "get")
	_, _, err = conn.Children(t.path + "/none")
	t.wants(err, zk.ErrNoNode, "children")
	_, err = conn.Set(t.path+"/none", nil, -1)
	t.wants(err, zk.ErrNoNode, "set")
	_, err = conn.Set(t.path+"/full", nil, 9)
	t.wants(err, zk.ErrBadVersion, "set with a version")
	t.wants(conn.Delete(t.path+"/none", -1), zk.ErrNoNode, "delete")
	t.wants(conn.Delete(t.path+"/full", -1), zk.ErrNotEmpty, "delete of a parent")
	t.wants(conn.Delete(t.path+"/full", 9), zk.ErrBadVersion, "delete with a version")
	_, _, err = conn.GetACL(t.path + "/none")
	t.wants(err, zk.ErrNoNode, "get ACL")
	_, err = conn.SetACL(t.path+"/full", open, 9)
	t.wants(err, zk.ErrBadVersion, "set ACL with a version")
	_, err = conn.Create(t.path+"/n", nil, 0, []zk.ACL{{Perms: 31, Scheme: "nonesuch", ID: "x"}})
	t.wants(err, zk.ErrInvalidACL, "unknown ACL scheme")
	t.create(conn, t.path+"/e", "", zk.FlagEphemeral)
	_, err = conn.Create(t.path+"/e/child", nil, 0, open)
	t.wants(err, zk.ErrNoChildrenForEphemerals, "child of an ephemeral")
}

func childrenAndStat(t *T) {
	conn, _ := t.client()
	for _, name := range []string{"a", "b", "c"} {
		t.create(conn, t.path+"/"+name, "", 0)
	}
	t.must(conn.Delete(t.path+"/b", -1))
	names, stat, err := conn.Children(t.path)
	t.must(err)
	sort.Strings(names)
	t.same(names, []string{"a", "c"}, "children")
	t.same([]any{stat.NumChildren, stat.Cversion}, []any{int32(2), int32(4)}, "stat")
}

func sequenceAndEphemeralFlags(t *T) {
	conn, _ := t.client()
	t.same(t.create(conn, t.path+"/s-", "", zk.FlagSequence), t.path+"/s-0000000000", "sequence")
	path := t.create(conn, t.path+"/s-", "", zk.FlagEphemeralSequential)
	t.same(path, t.path+"/s-0000000001", "ephemeral sequence")
	_, stat, err := conn.Exists(path)
	t.must(err)
	t.same(stat.EphemeralOwner, conn.SessionID(), "owner")
	t.close(conn)
	other, _ := t.client()
	names, _, err := other.Children(t.path)
	t.must(err)
	t.same(names, []string{"s-0000000000"}, "what the session left")
}

func createContainer(t *T) {
	conn, _ := t.client()
	path, err := conn.CreateContainer(t.path+"/c", []byte("x"), zk.FlagContainer, open)
	t.must(err)
	t.same(path, t.path+"/c", "path")
	t.create(conn, path+"/child", "", 0)
	_, stat, err := conn.Get(path)
	t.must(err)
	t.same([]any{stat.EphemeralOwner, stat.NumChildren}, []any{int64(0), int32(1)}, "stat")
}

func createTTL(t *T) {
	conn, _ := t.client()
	path, err := conn.CreateTTL(t.path+"/t", []byte("x"), zk.FlagTTL, open, time.Hour)
	t.must(err)
	t.same(path, t.path+"/t", "path")
	path, err = conn.CreateTTL(t.path+"/s-", nil, zk.FlagPersistentSequentialWithTTL, open, time.Hour)
	t.must(err)
	t.same(path, t.path+"/s-0000000001", "sequential path")
	_, stat, err := conn.Get(t.path + "/t")
	t.must(err)
	t.same(stat.EphemeralOwner, int64(0), "owner")
	_, err = conn.CreateTTL(t.path+"/bad", nil, zk.FlagTTL, open, 0)
	t.wants(err, zk.ErrBadArguments, "a TTL of nothing")
}

func createProtected(t *T) {
	conn, _ := t.client()
	path, err := conn.CreateProtectedEphemeralSequential(t.path+"/p-", []byte("x"), open)
	t.must(err)
	name := strings.TrimPrefix(path, t.path+"/")
	if !strings.HasPrefix(name, "_c_") || !strings.HasSuffix(name, "-p-0000000000") {
		t.fail("odd name %s", name)
	}
}

func multiCommitsAsOne(t *T) {
	conn, _ := t.client()
	t.create(conn, t.path+"/old", "", 0)
	got, err := conn.Multi(
		&zk.CreateRequest{Path: t.path + "/a", Data: []byte("1"), Acl: open},
		&zk.CreateRequest{Path: t.path + "/a/s-", Acl: open, Flags: zk.FlagSequence},
		&zk.CheckVersionRequest{Path: t.path + "/a", Version: 0},
		&zk.SetDataRequest{Path: t.path + "/a", Data: []byte("2"), Version: 0},
		&zk.DeleteRequest{Path: t.path + "/old", Version: -1},
	)
	t.must(err)
	t.same(len(got), 5, "results")
	for i, one := range got {
		if one.Error != nil {
			t.fail("result %d: %v", i, one.Error)
		}
	}
	t.same([]any{got[0].String, got[1].String, got[3].Stat.Version},
		[]any{t.path + "/a", t.path + "/a/s-0000000000", int32(1)}, "results")
	_, parent, err := conn.Get(t.path + "/a")
	t.must(err)
	_, child, err := conn.Get(got[1].String)
	t.must(err)
	t.same([]int64{parent.Czxid, parent.Mzxid}, []int64{child.Czxid, child.Czxid}, "one zxid for all")
}

func multiFailsAsOne(t *T) {
	conn, _ := t.client()
	t.create(conn, t.path+"/a", "0", 0)
	for name, bad := range map[string]struct {
		op   any
		want error
	}{
		"check":  {&zk.CheckVersionRequest{Path: t.path + "/a", Version: 9}, zk.ErrBadVersion},
		"create": {&zk.CreateRequest{Path: t.path + "/a", Acl: open}, zk.ErrNodeExists},
		"delete": {&zk.DeleteRequest{Path: t.path + "/none", Version: -1}, zk.ErrNoNode},
		"set":    {&zk.SetDataRequest{Path: t.path + "/none", Version: -1}, zk.ErrNoNode},
	} {
		got, err := conn.Multi(&zk.CreateRequest{Path: t.path + "/b", Acl: open}, bad.op,
			&zk.DeleteRequest{Path: t.path + "/a", Version: -1})
		t.wants(err, bad.want, name)
		t.same(len(got), 3, name+" results")
		t.wants(got[0].Error, nil, name+": the one before")
		t.wants(got[1].Error, bad.want, name+": the one that failed")
		if got[2].Error == nil {
			t.fail("%s: the one after it has no error", name)
		}
		exists, _, err := conn.Exists(t.path + "/b")
		t.must(err)
		t.same(exists, false, name+" left a node")
	}
}

func syncSeesTheOther(t *T) {
	conn, _ := t.client()
	other, _ := t.client()
	for i := 1; i <= 20; i++ {
		t.create(other, t.path+"/s-", "", zk.FlagSequence)
		path, err := conn.Sync(t.path)
		t.must(err)
		t.same(path, t.path, "path")
		names, _, err := conn.Children(t.path)
		t.must(err)
		t.same(len(names), i, "children")
	}
}

func acls(t *T) {
	conn, _ := t.client()
	path := t.path + "/n"
	_, err := conn.Create(path, nil, 0, zk.WorldACL(zk.PermRead))
	t.must(err)
	got, stat, err := conn.GetACL(path)
	t.must(err)
	t.same(got, zk.WorldACL(zk.PermRead), "ACL")
	t.same(stat.Aversion, int32(0), "aversion")
	_, err = conn.Set(path, nil, -1)
	t.wants(err, zk.ErrNoAuth, "set")
	_, err = conn.SetACL(path, open, -1)
	t.wants(err, zk.ErrNoAuth, "set ACL")
	t.create(conn, t.path+"/open", "", 0)
	want := append(zk.WorldACL(zk.PermAdmin|zk.PermRead), zk.ACL{Perms: 31, Scheme: "ip", ID: "10.0.0.0/8"})
	stat, err = conn.SetACL(t.path+"/open", want, 0)
	t.must(err)
	t.same(stat.Aversion, int32(1), "aversion")
	got, _, err = conn.GetACL(t.path + "/open")
	t.must(err)
	t.same(got, want, "ACL set")
}

func digestAuth(t *T) {
	owner, _ := t.client()
	stranger, _ := t.client()
	_, err := owner.Create(t.path+"/early", nil, 0, zk.AuthACL(zk.PermAll))
	t.wants(err, zk.ErrInvalidACL, "`auth` without an identity")
	t.must(owner.AddAuth("digest", []byte("anna:secret")))
	_, err = owner.Create(t.path+"/n", []byte("mine"), 0, zk.AuthACL(zk.PermAll))
	t.must(err)
	got, _, err := owner.GetACL(t.path + "/n")
	t.must(err)
	t.same(got, zk.DigestACL(zk.PermAll, "anna", "secret"), "the ACL that `auth` becomes")
	t.sync(stranger)
	_, _, err = stranger.Get(t.path + "/n")
	t.wants(err, zk.ErrNoAuth, "a stranger's get")
	t.must(stranger.AddAuth("digest", []byte("anna:wrong")))
	_, _, err = stranger.Get(t.path + "/n")
	t.wants(err, zk.ErrNoAuth, "get with a wrong password")
	t.must(stranger.AddAuth("digest", []byte("anna:secret")))
	data, _, err := stranger.Get(t.path + "/n")
	t.must(err)
	t.same(string(data), "mine", "data")
}

func unknownAuthScheme(t *T) {
	// The refusal comes with xid -4, which this client does not know; what it sees is the connection going.
	conn, events := t.client()
	go conn.AddAuth("nonesuch", []byte("x:y"))
	t.state(events, zk.StateDisconnected)
}

func lock(t *T) {
	one, _ := t.client()
	two, _ := t.client()
	first, second := zk.NewLock(one, t.path+"/deep/lock", open), zk.NewLock(two, t.path+"/deep/lock", open)
	t.must(first.Lock())
	t.wants(first.Lock(), zk.ErrDeadlock, "locking twice")
	done := make(chan error, 1)
	go func() { done <- second.LockWithData([]byte("mine")) }()
	t.until("the waiter", func() bool {
		names, _, err := one.Children(t.path + "/deep/lock")
		t.must(err)
		return len(names) == 2
	})
	select {
	case <-done:
		t.fail("two hold the lock")
	default:
	}
	t.must(first.Unlock())
	t.must(within(done))
	t.wants(first.Unlock(), zk.ErrNotLocked, "unlocking twice")
	// The last holder's session ends: the lock is free again.
	t.close(two)
	t.must(first.Lock())
	t.must(first.Unlock())
}

func lockIsFair(t *T) {
	const clients, rounds = 4, 10
	var group sync.WaitGroup
	inside, count := make(chan struct{}, 1), 0
	errors := make(chan error, clients)
	for range [clients]int{} {
		conn, _ := t.client()
		group.Add(1)
		go func() {
			defer group.Done()
			for range [rounds]int{} {
				one := zk.NewLock(conn, t.path+"/lock", open)
				if err := one.Lock(); err != nil {
					errors <- err
					return
				}
				select {
				case inside <- struct{}{}:
				default:
					errors <- fmt.Errorf("two hold the lock")
				}
				count++
				<-inside
				if err := one.Unlock(); err != nil {
					errors <- err
					return
				}
			}
		}()
	}
	group.Wait()
	select {
	case err := <-errors:
		t.must(err)
	default:
	}
	t.same(count, clients*rounds, "turns")
}

func manyInFlight(t *T) {
	conn, _ := t.client()
	errors := make(chan error, 200)
	for i := 0; i < 200; i++ {
		go func(path string) {
			_, err := conn.Create(path, []byte("x"), 0, open)
			if err == nil {
				_, _, err = conn.Get(path)
			}
			errors <- err
		}(fmt.Sprintf("%s/n%d", t.path, i))
	}
	for i := 0; i < 200; i++ {
		t.must(within(errors))
	}
	names, _, err := conn.Children(t.path)
	t.must(err)
	t.same(len(names), 200, "children")
}

func reconfigIsRefused(t *T) {
	if len(hosts) > 1 {
		// Only a single server refuses for certain; what an ensemble does is another suite's business.
		return
	}
	conn, _ := t.client()
	if _, err := conn.IncrementalReconfig([]string{"server.9=127.0.0.1:1:2:participant;3"}, nil, -1); err == nil {
		t.fail("a single server was reconfigured")
	}
	if _, _, err := conn.Get("/zookeeper/config"); err != nil {
		t.fail("the session died of it: %v", err)
	}
}

func flwRuok(t *T) {
	for _, fine := range zk.FLWRuok(hosts, patience) {
		t.same(fine, true, "ruok")
	}
}

// ZooKeeper writes its build date as 2026-02-11 since 3.5 or so; this helper wants 02/11/2026 and gives up ("no regex
// matches"), with 3.9.5 as with any other. Both outcomes are fine here, silence and a broken connection are not.
func flwSrvr(t *T) {
	stats, fine := zk.FLWSrvr(hosts, patience)
	t.same(len(stats), len(hosts), "answers")
	for _, one := range stats {
		if fine {
			if one.Version == "" || one.NodeCount == 0 {
				t.fail("an empty answer: %+v", one)
			}
		} else if one.Error == nil || !strings.Contains(one.Error.Error(), "no regex matches") {
			t.fail("%v", one.Error)
		}
	}
}

// The list also holds the asking connection itself, which has no session: the helper's verdict is always false then,
// with ZooKeeper too. The lines that it does understand are returned.
func flwCons(t *T) {
	conn, _ := t.client()
	_, _, err := conn.Get("/")
	t.must(err)
	answers, _ := zk.FLWCons(hosts, patience)
	t.same(len(answers), len(hosts), "answers")
	found, listed := 0, 0
	for _, answer := range answers {
		t.must(answer.Error)
		listed += len(answer.Clients)
		for _, one := range answer.Clients {
			if one.SessionID == conn.SessionID() {
				found++
				if one.Received < 2 || one.Timeout <= 0 || one.LastOperation == "" {
					t.fail("odd numbers: %+v", one)
				}
			}
		}
	}
	t.same(found, 1, fmt.Sprintf("servers that list our session among %d", listed))
}

func within(errors <-chan error) error {
	select {
	case err := <-errors:
		return err
	case <-time.After(patience):
		return fmt.Errorf("waited in vain for an answer")
	}
}
