// The suite's frame: cases, clients that end with their case, bounded waits, and one line a result.
package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	// The longest a single wait may take; a healthy server answers in milliseconds.
	patience = 20 * time.Second
	// The longest a whole case may take before it counts as hung.
	caseLimit = 45 * time.Second
	// How often an interrupted case may begin.
	beginnings = 5
)

var (
	hosts = strings.Split(os.Getenv("ZK_HOSTS"), ",")
	// Somebody kills a server of the ensemble now and then. A request may then fail with its connection, and its case
	// begins again elsewhere in the tree; every session must be there afterwards, and any other failure is one.
	kills = os.Getenv("ZK_KILLS") != ""
	root  = "/rk-go-" + randomHex(6)
	open  = zk.WorldACL(zk.PermAll)
	quiet = log.New(io.Discard, "", 0)
)

type entry struct {
	name string
	run  func(*T)
}

// Cases that cannot hold while servers are killed, and why.
var calm = map[string]string{}

// T is the place of one case in the tree, and what has to end with it. Failing is a panic of kind `failure`, and a
// request that went down with its server one of kind `interruption`.
type T struct {
	path     string
	ends     []func()
	sessions map[*zk.Conn]int64
}

type (
	failure      string
	interruption string
)

func (t *T) fail(form string, args ...any) { panic(failure(fmt.Sprintf(form, args...))) }

func (t *T) atEnd(action func()) { t.ends = append(t.ends, action) }

func interrupts(err error) bool {
	return kills && (err == zk.ErrConnectionClosed || err == zk.ErrNoServer)
}

func (t *T) must(err error) {
	if interrupts(err) {
		panic(interruption(err.Error() + callers()))
	}
	if err != nil {
		t.fail("unexpected error: %v", err)
	}
}

func (t *T) same(got, want any, what string) {
	if !reflect.DeepEqual(got, want) {
		t.fail("%s: got %v, want %v", what, got, want)
	}
}

func (t *T) wants(err, want error, what string) {
	if interrupts(err) {
		t.must(err)
	}
	if err != want {
		t.fail("%s: got error %v, want %v", what, err, want)
	}
}

// client opens a session; the states it goes through can be read from the channel.
func (t *T) client() (*zk.Conn, <-chan zk.Event) { return t.clientFor(10 * time.Second) }

func (t *T) clientFor(timeout time.Duration) (*zk.Conn, <-chan zk.Event) {
	conn, events := t.clientAt(hosts, timeout)
	t.sessions[conn] = conn.SessionID()
	return conn, events
}

// clientAt opens a session that sees all that was answered to others before. One behind a proxy may be meant to end.
func (t *T) clientAt(addresses []string, timeout time.Duration) (*zk.Conn, <-chan zk.Event) {
	conn, events, err := zk.Connect(addresses, timeout, zk.WithLogger(quiet), zk.WithLogInfo(false))
	t.must(err)
	t.atEnd(conn.Close)
	t.state(events, zk.StateHasSession)
	for tries := 0; ; tries++ {
		if _, err = conn.Sync("/"); !interrupts(err) || tries == 100 {
			t.must(err)
			return conn, events
		}
	}
}

// close ends a session before its case ends.
func (t *T) close(conn *zk.Conn) {
	delete(t.sessions, conn)
	conn.Close()
}

// sync lets the connection see what was answered to others.
func (t *T) sync(conn *zk.Conn) {
	_, err := conn.Sync(t.path)
	t.must(err)
}

// sessionsAreKept holds when whoever was not closed has its session once it is connected again.
func (t *T) sessionsAreKept() {
	for conn, session := range t.sessions {
		t.until("the connection to come back", func() bool { return conn.State() == zk.StateHasSession })
		t.same(conn.SessionID(), session, "session after a kill")
	}
}

// state reads session events until the wanted one comes; others may pass by.
func (t *T) state(events <-chan zk.Event, want zk.State) {
	limit := time.After(patience)
	for {
		select {
		case event := <-events:
			if event.Type == zk.EventSession && event.State == want {
				return
			}
		case <-limit:
			t.fail("waited in vain for the state %v", want)
		}
	}
}

// event waits for one watch event.
func (t *T) event(events <-chan zk.Event, kind zk.EventType, path string) {
	select {
	case event := <-events:
		t.must(event.Err)
		t.same(fmt.Sprint(event.Type, " ", event.Path), fmt.Sprint(kind, " ", path), "event")
	case <-time.After(patience):
		t.fail("waited in vain for %v %s", kind, path)
	}
}

func (t *T) until(what string, condition func() bool) {
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.fail("waited in vain for: %s", what)
		}
	}
}

func (t *T) create(conn *zk.Conn, path, data string, flags int32) string {
	created, err := conn.Create(path, []byte(data), flags, open)
	t.must(err)
	return created
}

func randomHex(count int) string {
	bytes := make([]byte, count)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", bytes)
}

func main() {
	if hosts[0] == "" {
		fmt.Fprintln(os.Stderr, "ZK_HOSTS is not set")
		os.Exit(2)
	}
	frame := &T{sessions: map[*zk.Conn]int64{}}
	setup, _ := frame.client()
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "setup:", err)
			os.Exit(2)
		}
	}
	// What the cases hide, they hide behind this identity; the clearing up must see it.
	must(setup.AddAuth("digest", []byte("anna:secret")))
	create := func(path string) {
		_, err := setup.Create(path, nil, 0, open)
		for tries := 0; interrupts(err) && tries < 100; tries++ {
			// It may have succeeded before.
			if _, err = setup.Create(path, nil, 0, open); err == zk.ErrNodeExists {
				err = nil
			}
		}
		must(err)
	}
	create(root)
	passed, failed, skipped := 0, 0, 0
	for _, one := range append(append(opCases, watchCases...), sessionCases...) {
		if !chosen(one.name) {
			continue
		}
		if why := calm[one.name]; kills && why != "" {
			skipped++
			fmt.Printf("skip %s: %s\n", one.name, why)
			continue
		}
		create(root + "/" + one.name)
		why, interrupted := runCase(one, root+"/"+one.name)
		for i := 2; interrupted && i <= beginnings; i++ {
			fmt.Printf("again %s: %s\n", one.name, why)
			path := fmt.Sprintf("%s/%s-%d", root, one.name, i)
			create(path)
			why, interrupted = runCase(one, path)
		}
		if why == "" {
			passed++
			fmt.Println("ok", one.name)
		} else {
			failed++
			fmt.Printf("FAIL %s: %s\n", one.name, strings.Join(strings.Fields(why), " "))
		}
	}
	if err := deleteAll(setup, root); err != nil {
		fmt.Fprintf(os.Stderr, "note: %s was left behind: %v\n", root, err)
	}
	setup.Close()
	count := fmt.Sprintf("%d passed, %d failed", passed, failed)
	if skipped > 0 {
		count += fmt.Sprintf(", %d skipped", skipped)
	}
	fmt.Println(count)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}

func chosen(name string) bool {
	for _, word := range os.Args[1:] {
		if strings.Contains(name, word) {
			return true
		}
	}
	return len(os.Args) == 1
}

// runCase runs a case on a goroutine of its own, so that a hung one is a failure and not the end of the suite. It tells why
// the case failed, and whether it was only interrupted.
func runCase(one entry, path string) (string, bool) {
	type result struct {
		why         string
		interrupted bool
	}
	done := make(chan result, 1)
	go func() {
		t := &T{path: path, sessions: map[*zk.Conn]int64{}}
		why, interrupted := reason(func() { one.run(t) })
		if kills && (why == "" || interrupted) {
			if lost, _ := reason(t.sessionsAreKept); lost != "" {
				why, interrupted = lost, false
			}
		}
		for i := len(t.ends) - 1; i >= 0; i-- {
			t.ends[i]()
		}
		done <- result{why, interrupted}
	}()
	select {
	case got := <-done:
		return got.why, got.interrupted
	case <-time.After(caseLimit):
		return fmt.Sprint("still running after ", caseLimit), false
	}
}

// reason runs the body and tells why it failed, if it did, and whether it was interrupted.
func reason(body func()) (why string, interrupted bool) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case failure:
			why = string(reason) + callers()
		case interruption:
			why, interrupted = string(reason), true
		default:
			why = fmt.Sprint("panic: ", reason)
			debug.PrintStack()
		}
	}()
	body()
	return
}

// callers names the case's line that failed: the first frame outside this file.
func callers() string {
	for depth := 2; depth < 20; depth++ {
		_, file, line, found := runtime.Caller(depth)
		base := filepath.Base(file)
		if found && base != "main.go" && base != "panic.go" {
			return fmt.Sprintf(" (%s:%d)", base, line)
		}
	}
	return ""
}

func deleteAll(conn *zk.Conn, path string) error {
	children, _, err := conn.Children(path)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := deleteAll(conn, path+"/"+child); err != nil && err != zk.ErrNoNode {
			return err
		}
	}
	return conn.Delete(path, -1)
}
