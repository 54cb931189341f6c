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
)

var (
	hosts = os.Getenv("ZK_HOSTS")
	root  = "/rk-go-" + randomHex(6)
	open  = zk.WorldACL(zk.PermAll)
	quiet = log.New(io.Discard, "", 0)
)

type entry struct {
	name string
	run  func(*T)
}

// T is the place of one case in the tree, and what has to end with it. Failing is a panic of kind `failure`.
type T struct {
	path string
	ends []func()
}

type failure string

func (t *T) fail(form string, args ...any) { panic(failure(fmt.Sprintf(form, args...))) }

func (t *T) atEnd(action func()) { t.ends = append(t.ends, action) }

func (t *T) must(err error) {
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
	if err != want {
		t.fail("%s: got error %v, want %v", what, err, want)
	}
}

// client opens a session; the states it goes through can be read from the channel.
func (t *T) client() (*zk.Conn, <-chan zk.Event) { return t.clientAt(hosts, 10*time.Second) }

func (t *T) clientAt(address string, timeout time.Duration) (*zk.Conn, <-chan zk.Event) {
	conn, events, err := zk.Connect([]string{address}, timeout, zk.WithLogger(quiet), zk.WithLogInfo(false))
	t.must(err)
	t.atEnd(conn.Close)
	t.state(events, zk.StateHasSession)
	return conn, events
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
	if hosts == "" {
		fmt.Fprintln(os.Stderr, "ZK_HOSTS is not set")
		os.Exit(2)
	}
	frame := &T{}
	setup, _ := frame.client()
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "setup:", err)
			os.Exit(2)
		}
	}
	// What the cases hide, they hide behind this identity; the clearing up must see it.
	must(setup.AddAuth("digest", []byte("anna:secret")))
	_, err := setup.Create(root, nil, 0, open)
	must(err)
	passed, failed := 0, 0
	for _, one := range append(append(opCases, watchCases...), sessionCases...) {
		if !chosen(one.name) {
			continue
		}
		_, err := setup.Create(root+"/"+one.name, nil, 0, open)
		must(err)
		if why := runCase(one); why == "" {
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
	fmt.Printf("%d passed, %d failed\n", passed, failed)
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

// runCase runs a case on a goroutine of its own, so that a hung one is a failure and not the end of the suite.
func runCase(one entry) string {
	done := make(chan string, 1)
	go func() {
		t := &T{path: root + "/" + one.name}
		defer func() {
			why := ""
			switch reason := recover().(type) {
			case nil:
			case failure:
				why = string(reason) + callers()
			default:
				why = fmt.Sprint("panic: ", reason)
				debug.PrintStack()
			}
			for i := len(t.ends) - 1; i >= 0; i-- {
				t.ends[i]()
			}
			done <- why
		}()
		one.run(t)
	}()
	select {
	case why := <-done:
		return why
	case <-time.After(caseLimit):
		return fmt.Sprint("still running after ", caseLimit)
	}
}

// callers names the case's line that failed: the first frame outside this file.
func callers() string {
	for depth := 3; depth < 20; depth++ {
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
