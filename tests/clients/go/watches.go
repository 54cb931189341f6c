// One-shot watches. This client has no addWatch.
package main

import (
	"fmt"

	"github.com/go-zookeeper/zk"
)

var watchCases = []entry{
	{"watch-data", watchData},
	{"watch-exists", watchExists},
	{"watch-children", watchChildren},
	{"watch-every-kind-on-a-deleted-node", watchEveryKind},
	{"watch-of-a-failed-read", watchOfAFailedRead},
	{"watch-ephemeral-of-a-closed-session", watchEphemeral},
	{"watch-multi", watchMulti},
	{"watch-again-sees-the-new-state", watchAgain},
	{"watch-order-of-events", watchOrder},
}

func watchData(t *T) {
	conn, _ := t.client()
	other, _ := t.client()
	t.create(conn, t.path+"/n", "0", 0)
	_, _, events, err := conn.GetW(t.path + "/n")
	t.must(err)
	_, err = other.Set(t.path+"/n", []byte("1"), -1)
	t.must(err)
	t.event(events, zk.EventNodeDataChanged, t.path+"/n")
	_, _, events, err = conn.GetW(t.path + "/n")
	t.must(err)
	t.must(other.Delete(t.path+"/n", -1))
	t.event(events, zk.EventNodeDeleted, t.path+"/n")
}

func watchExists(t *T) {
	conn, _ := t.client()
	other, _ := t.client()
	exists, _, events, err := conn.ExistsW(t.path + "/n")
	t.must(err)
	t.same(exists, false, "exists")
	t.create(other, t.path+"/n", "", 0)
	t.event(events, zk.EventNodeCreated, t.path+"/n")
	exists, _, events, err = conn.ExistsW(t.path + "/n")
	t.must(err)
	t.same(exists, true, "exists")
	_, err = other.Set(t.path+"/n", nil, -1)
	t.must(err)
	t.event(events, zk.EventNodeDataChanged, t.path+"/n")
}

func watchChildren(t *T) {
	conn, _ := t.client()
	other, _ := t.client()
	_, _, events, err := conn.ChildrenW(t.path)
	t.must(err)
	t.create(other, t.path+"/a", "", 0)
	t.event(events, zk.EventNodeChildrenChanged, t.path)
	names, _, events, err := conn.ChildrenW(t.path)
	t.must(err)
	t.same(names, []string{"a"}, "children")
	t.must(other.Delete(t.path+"/a", -1))
	t.event(events, zk.EventNodeChildrenChanged, t.path)
}

func watchEveryKind(t *T) {
	conn, all := t.client()
	other, _ := t.client()
	t.create(conn, t.path+"/n", "", 0)
	_, _, data, err := conn.GetW(t.path + "/n")
	t.must(err)
	_, _, exist, err := conn.ExistsW(t.path + "/n")
	t.must(err)
	_, _, child, err := conn.ChildrenW(t.path + "/n")
	t.must(err)
	t.must(other.Delete(t.path+"/n", -1))
	for _, events := range []<-chan zk.Event{data, exist, child} {
		t.event(events, zk.EventNodeDeleted, t.path+"/n")
	}
	// On the wire it was one event for all three.
	_, _, marker, err := conn.ExistsW(t.path + "/marker")
	t.must(err)
	t.create(other, t.path+"/marker", "", 0)
	t.event(marker, zk.EventNodeCreated, t.path+"/marker")
	deleted := 0
	for event := range all {
		if event.Type == zk.EventNodeDeleted {
			deleted++
		}
		if event.Type == zk.EventNodeCreated {
			break
		}
	}
	t.same(deleted, 1, "events on the wire")
}

func watchOfAFailedRead(t *T) {
	conn, all := t.client()
	other, _ := t.client()
	_, _, _, err := conn.GetW(t.path + "/n")
	t.wants(err, zk.ErrNoNode, "get")
	_, _, _, err = conn.ChildrenW(t.path + "/n")
	t.wants(err, zk.ErrNoNode, "children")
	_, _, marker, err := conn.ExistsW(t.path + "/marker")
	t.must(err)
	t.create(other, t.path+"/n", "", 0)
	t.create(other, t.path+"/marker", "", 0)
	t.event(marker, zk.EventNodeCreated, t.path+"/marker")
	for event := range all {
		if event.Path == t.path+"/n" {
			t.fail("a failed read left a watch: %v", event)
		}
		if event.Path == t.path+"/marker" {
			break
		}
	}
}

func watchEphemeral(t *T) {
	conn, _ := t.client()
	other, _ := t.client()
	t.create(other, t.path+"/e", "", zk.FlagEphemeral)
	t.sync(conn)
	_, _, events, err := conn.GetW(t.path + "/e")
	t.must(err)
	t.close(other)
	t.event(events, zk.EventNodeDeleted, t.path+"/e")
}

func watchMulti(t *T) {
	conn, _ := t.client()
	other, _ := t.client()
	t.create(conn, t.path+"/a", "", 0)
	_, _, data, err := conn.GetW(t.path + "/a")
	t.must(err)
	_, _, missing, err := conn.ExistsW(t.path + "/b")
	t.must(err)
	_, _, child, err := conn.ChildrenW(t.path)
	t.must(err)
	_, err = other.Multi(&zk.SetDataRequest{Path: t.path + "/a", Version: -1}, &zk.CreateRequest{Path: t.path + "/b", Acl: open})
	t.must(err)
	t.event(data, zk.EventNodeDataChanged, t.path+"/a")
	t.event(missing, zk.EventNodeCreated, t.path+"/b")
	t.event(child, zk.EventNodeChildrenChanged, t.path)
}

func watchAgain(t *T) {
	conn, _ := t.client()
	other, _ := t.client()
	t.create(conn, t.path+"/n", "0", 0)
	for i := 1; i <= 50; i++ {
		want := fmt.Sprint(i)
		_, _, events, err := conn.GetW(t.path + "/n")
		t.must(err)
		_, err = other.Set(t.path+"/n", []byte(want), -1)
		t.must(err)
		t.event(events, zk.EventNodeDataChanged, t.path+"/n")
		data, _, err := conn.Get(t.path + "/n")
		t.must(err)
		t.same(string(data), want, "who heard of a change sees it")
	}
}

func watchOrder(t *T) {
	conn, all := t.client()
	other, _ := t.client()
	// The client's own channel of events keeps only a few: stay below that.
	want := []string{}
	for i := 0; i < 5; i++ {
		path := fmt.Sprintf("%s/n%d", t.path, i)
		want = append(want, path)
		_, _, _, err := conn.ExistsW(path)
		t.must(err)
	}
	for _, path := range want {
		t.create(other, path, "", 0)
	}
	got := []string{}
	t.until("five events", func() bool {
		select {
		case event := <-all:
			if event.Type == zk.EventNodeCreated {
				got = append(got, event.Path)
			}
		default:
		}
		return len(got) == len(want)
	})
	t.same(got, want, "events in the order of the writes")
}
