// What becomes of a session when its connection is cut, and when nothing gets through.
package main

import (
	"time"

	"github.com/go-zookeeper/zk"
)

var sessionCases = []entry{
	{"handshake-has-44-bytes", handshake},
	{"session-survives-a-cut", sessionSurvivesACut},
	{"watches-catch-up-after-a-cut", watchesCatchUp},
	{"auth-is-given-again-after-a-cut", authIsGivenAgain},
	{"lock-is-kept-over-a-cut", lockIsKept},
	{"session-expires-when-nothing-gets-through", sessionExpires},
	{"idle-session-lives-by-pings", idleSession},
}

// The old form of the connect request, without the read-only byte: the answer must lack that byte too.
func handshake(t *T) {
	through := t.proxy()
	conn, _ := t.clientAt(through.address(), 10*time.Second)
	t.same(through.handshake.Load(), int32(44), "length of the connect request")
	exists, _, err := conn.Exists("/zookeeper")
	t.must(err)
	t.same(exists, true, "exists")
}

func sessionSurvivesACut(t *T) {
	through := t.proxy()
	conn, events := t.clientAt(through.address(), 10*time.Second)
	t.create(conn, t.path+"/e", "", zk.FlagEphemeral)
	session := conn.SessionID()
	for round := 0; round < 2; round++ {
		through.cut()
		t.state(events, zk.StateDisconnected)
		t.state(events, zk.StateHasSession)
		t.same(conn.SessionID(), session, "session")
		_, stat, err := conn.Exists(t.path + "/e")
		t.must(err)
		t.same(stat.EphemeralOwner, session, "owner")
	}
}

func watchesCatchUp(t *T) {
	through := t.proxy()
	conn, events := t.clientAt(through.address(), 10*time.Second)
	other, _ := t.client()
	for _, name := range []string{"changed", "deleted", "parent", "quiet"} {
		t.create(conn, t.path+"/"+name, "", 0)
	}
	watch := func(read func(string) ([]byte, *zk.Stat, <-chan zk.Event, error), name string) <-chan zk.Event {
		_, _, found, err := read(t.path + "/" + name)
		t.must(err)
		return found
	}
	changed, deleted, quiet := watch(conn.GetW, "changed"), watch(conn.GetW, "deleted"), watch(conn.GetW, "quiet")
	_, _, created, err := conn.ExistsW(t.path + "/created")
	t.must(err)
	_, _, later, err := conn.ExistsW(t.path + "/later")
	t.must(err)
	_, _, parent, err := conn.ChildrenW(t.path + "/parent")
	t.must(err)

	through.swallow()
	_, err = other.Set(t.path+"/changed", nil, -1)
	t.must(err)
	t.must(other.Delete(t.path+"/deleted", -1))
	t.create(other, t.path+"/created", "", 0)
	t.create(other, t.path+"/parent/child", "", 0)
	through.heal()
	t.state(events, zk.StateHasSession)

	t.event(changed, zk.EventNodeDataChanged, t.path+"/changed")
	t.event(deleted, zk.EventNodeDeleted, t.path+"/deleted")
	t.event(created, zk.EventNodeCreated, t.path+"/created")
	t.event(parent, zk.EventNodeChildrenChanged, t.path+"/parent")
	// What did not change in between is watched on.
	_, err = other.Set(t.path+"/quiet", nil, -1)
	t.must(err)
	t.event(quiet, zk.EventNodeDataChanged, t.path+"/quiet")
	t.create(other, t.path+"/later", "", 0)
	t.event(later, zk.EventNodeCreated, t.path+"/later")
}

func authIsGivenAgain(t *T) {
	through := t.proxy()
	conn, events := t.clientAt(through.address(), 10*time.Second)
	t.must(conn.AddAuth("digest", []byte("anna:secret")))
	_, err := conn.Create(t.path+"/n", []byte("mine"), 0, zk.AuthACL(zk.PermAll))
	t.must(err)
	through.cut()
	t.state(events, zk.StateDisconnected)
	t.state(events, zk.StateHasSession)
	data, _, err := conn.Get(t.path + "/n")
	t.must(err)
	t.same(string(data), "mine", "data")
}

func lockIsKept(t *T) {
	through := t.proxy()
	conn, events := t.clientAt(through.address(), 10*time.Second)
	other, _ := t.client()
	held := zk.NewLock(conn, t.path+"/lock", open)
	t.must(held.Lock())
	done := make(chan error, 1)
	go func() { done <- zk.NewLock(other, t.path+"/lock", open).Lock() }()
	t.until("the waiter", func() bool {
		names, _, err := conn.Children(t.path + "/lock")
		return err == nil && len(names) == 2
	})
	through.cut()
	t.state(events, zk.StateDisconnected)
	t.state(events, zk.StateHasSession)
	select {
	case <-done:
		t.fail("the lock was lost with the connection")
	default:
	}
	t.must(held.Unlock())
	t.must(within(done))
}

func sessionExpires(t *T) {
	through := t.proxy()
	// The server rounds up to its minimum, usually twice its tick.
	conn, events := t.clientAt(through.address(), time.Second)
	other, _ := t.client()
	t.create(conn, t.path+"/e", "", zk.FlagEphemeral)
	t.sync(other)
	session := conn.SessionID()
	_, _, watch, err := conn.GetW(t.path + "/e")
	t.must(err)
	_, _, gone, err := other.GetW(t.path + "/e")
	t.must(err)
	through.swallow()
	t.event(gone, zk.EventNodeDeleted, t.path+"/e")
	through.heal()
	t.state(events, zk.StateExpired)
	t.state(events, zk.StateHasSession)
	if conn.SessionID() == session {
		t.fail("the dead session lives on")
	}
	select {
	case event := <-watch:
		t.wants(event.Err, zk.ErrSessionExpired, "the watch of the dead session")
	case <-time.After(patience):
		t.fail("the watch of the dead session hangs")
	}
}

func idleSession(t *T) {
	conn, _ := t.clientFor(time.Second)
	other, _ := t.client()
	t.create(conn, t.path+"/e", "", zk.FlagEphemeral)
	t.sync(other)
	_, _, gone, err := other.GetW(t.path + "/e")
	t.must(err)
	select {
	case event := <-gone:
		t.fail("an idle session with a live client expired: %v", event)
	case <-time.After(7 * time.Second):
	}
}
